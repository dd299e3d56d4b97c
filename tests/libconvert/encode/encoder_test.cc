#include "libconvert/encode/encoder.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "formats/q4/encoders.h"
#include "tests/support/catch.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

TEST_CASE("every encoder that runs has its row in the container's table, and a name that finds it") {
  REQUIRE_FALSE(Encoders().empty());
  for (const Encoder* const encoder : Encoders()) {
    CHECK(FindEncoder(encoder->id()) == encoder);
    CHECK(&EncoderOf(encoder->id()) == encoder);
    REQUIRE(FindQ4Encoder(encoder->name()) != nullptr);
    CHECK(FindQ4Encoder(encoder->name())->encoder == encoder->id());
  }
}

TEST_CASE("what nobody of ours has encoded names no encoder") {
  CHECK(EncoderNames() == std::vector<std::string>{"absmax", "mse", "weighted", "feedback"});
  CHECK(FindEncoder(Q4Encoder::kNone) == nullptr);
  CHECK(FindQ4Encoder("none") == nullptr);
  CHECK(FindQ4Encoder(static_cast<Q4Encoder>(5)) == nullptr);
}

TEST_CASE("every encoder that a container can name has its proof, and only one that runs is computed again") {
  for (const Q4EncoderRow& row : Q4EncoderRows()) {
    CHECK(&ProofOf(row.encoder) == &row.proof);
    // A calibrated one only with its file, and if it runs: CanRecompute() of the wing verify.
    CHECK((!row.proof.recompute || row.calibrated || FindEncoder(row.encoder) != nullptr));
    // Absmax is the measure. Who weighs errors may be worse by it, within what was measured.
    CHECK((row.proof.most_error >= 1 && row.proof.most_error <= (row.calibrated ? 18 : 2)));
  }
}

TEST_CASE("absmax chooses what its kernels choose, whole or in tiles") {
  for (const Scheme& scheme : Schemes()) {
    for (const std::uint32_t block_size : {32u, 64u, 4096u}) {
      SlabShape shape;
      shape.scheme = scheme.id;
      shape.block_size = block_size;
      shape.type = FloatType::kBF16;
      shape.elems = 3 * TileElems(block_size) + 33;
      const std::vector<std::uint8_t> x = test::NormalBytes(DType::kBF16, shape.elems, block_size);
      const std::uint64_t blocks = BlockCount(shape.elems, block_size);
      std::vector<float> expected_scales(blocks), scales(blocks);
      std::vector<std::uint8_t> expected_codes(PackedBytes(shape.elems)), codes(expected_codes.size());
      const KernelTable& kernels = ScalarKernels();
      REQUIRE(kernels.quantize(shape.type, scheme.book, x.data(), shape.elems, block_size, expected_codes.data(),
                               expected_scales.data()) == kAllFinite);
      const Encoder& encoder = EncoderOf(Q4Encoder::kAbsmax);
      CHECK(encoder.ChooseScales(kernels, shape, x.data(), scales.data()) == kAllFinite);
      CHECK(scales == expected_scales);
      scales.assign(blocks, -1);
      CHECK(encoder.ChooseCodes(kernels, shape, x.data(), scales.data(), codes.data()) == kAllFinite);
      CHECK(scales == expected_scales);
      CHECK(codes == expected_codes);
      scales.assign(blocks, -1);
      codes.assign(codes.size(), 0xAA);
      TiledStats stats;
      CHECK(EncodeSlab(encoder, kernels, shape, x.data(), codes.data(), scales.data(), nullptr, &stats) == kAllFinite);
      CHECK(scales == expected_scales);
      CHECK(codes == expected_codes);
      CHECK(stats.tiles.size() == 4);
      TiledStats again;
      TakeSlabStats(kernels, shape, x.data(), codes.data(), scales.data(), &again);
      CHECK(again.tiles.back().worst_block_e2 == stats.tiles.back().worst_block_e2);
      CHECK(again.groups.back().e2 == stats.groups.back().e2);
    }
  }
}

// All that a tensor's two ways (fp32 and nested) yield, whole or cut into pieces of 256 blocks and more.
struct MseResult {
  std::vector<float> scales, decoded, group_scales;
  std::vector<std::uint8_t> scale_codes, codes, nested_codes;
  std::vector<NestedLoss> losses;
};

MseResult EncodeMse(const SlabShape& shape, const std::vector<std::uint8_t>& x, std::uint64_t piece_blocks) {
  const SearchingEncoder& encoder = *EncoderOf(Q4Encoder::kMse).searching();
  const KernelTable& kernels = BestCpuKernels();
  const std::uint64_t blocks = BlockCount(shape.elems, shape.block_size);
  MseResult out;
  out.scales.resize(blocks);
  out.decoded.resize(blocks);
  out.group_scales.resize(GroupCount(blocks));
  out.losses.resize(GroupCount(blocks));
  out.scale_codes.resize(blocks);
  out.codes.resize(PackedBytes(shape.elems));
  out.nested_codes.resize(PackedBytes(shape.elems));
  for (std::uint64_t block = 0; block < blocks; block += piece_blocks) {
    const std::uint64_t first = block * shape.block_size;
    SlabShape piece = shape;
    piece.elems = std::min(piece_blocks * shape.block_size, shape.elems - first);
    const std::uint8_t* const at = x.data() + first * FloatSize(shape.type);
    CHECK(encoder.ChooseCodes(kernels, piece, at, &out.scales[block], &out.codes[first / 2]) == kAllFinite);
    std::vector<float> again(BlockCount(piece.elems, piece.block_size));
    CHECK(encoder.ChooseNested(kernels, piece, at,
                               {again.data(), &out.scale_codes[block], &out.group_scales[block / kScaleGroup],
                                &out.losses[block / kScaleGroup]}) == kAllFinite);
    CHECK(std::equal(again.begin(), again.end(), out.scales.begin() + static_cast<std::ptrdiff_t>(block)));
  }
  kernels.dequantize_scales(out.scale_codes.data(), out.group_scales.data(), blocks, 0, out.decoded.data());
  encoder.CodesUnder(kernels, shape, x.data(), out.decoded.data(), out.nested_codes.data());
  return out;
}

double ErrorOf(const SlabShape& shape, const std::vector<std::uint8_t>& x, const std::vector<std::uint8_t>& codes,
               const std::vector<float>& scales, std::vector<double>* groups) {
  std::vector<GroupSums> sums(GroupCount(scales.size()));
  SlabStats stats;
  BestCpuKernels().error_stats(shape.type, shape.book(), x.data(), codes.data(), scales.data(), shape.elems,
                               shape.block_size, sums.data(), &stats);
  double total = 0;
  for (const GroupSums& group : sums) {
    if (groups != nullptr) groups->push_back(group.e2);
    total += group.e2;
  }
  return total;
}

TEST_CASE("mse chooses the same however a tensor is cut, and loses what it says and less than nested absmax") {
  for (const Scheme& scheme : Schemes()) {
    for (const std::uint32_t block_size : {32u, 64u, 1024u}) {
      for (int effort = kLeastEffort; effort <= 2; ++effort) {
        SlabShape shape;
        shape.scheme = scheme.id;
        shape.block_size = block_size;
        shape.type = FloatType::kBF16;
        shape.elems = 600 * block_size + 21;
        shape.effort = effort;
        const std::vector<std::uint8_t> x = test::NormalBytes(DType::kBF16, shape.elems, block_size);
        const MseResult whole = EncodeMse(shape, x, 1 << 20), cut = EncodeMse(shape, x, 256);
        CHECK(whole.scales == cut.scales);
        CHECK(whole.codes == cut.codes);
        CHECK(whole.scale_codes == cut.scale_codes);
        CHECK(whole.group_scales == cut.group_scales);
        CHECK(whole.nested_codes == cut.nested_codes);
        // The losses are those of the error statistics, and the floors below what absmax loses.
        std::vector<double> groups, absmax_groups;
        const double nested = ErrorOf(shape, x, whole.nested_codes, whole.decoded, &groups);
        REQUIRE(groups.size() == whole.losses.size());
        const std::uint64_t blocks = whole.scales.size();
        std::vector<float> absmax(blocks);
        std::vector<std::uint8_t> codes(whole.codes.size());
        EncoderOf(Q4Encoder::kAbsmax).ChooseCodes(BestCpuKernels(), shape, x.data(), absmax.data(), codes.data());
        const double plain_absmax = ErrorOf(shape, x, codes, absmax, nullptr);
        Sum256 sum;
        sum.Add(absmax);
        const float offset = NestedOffset(sum.total(), blocks);
        std::vector<std::uint8_t> scale_codes(blocks);
        std::vector<float> group_scales(GroupCount(blocks));
        BestCpuKernels().quantize_scales(absmax.data(), blocks, offset, scale_codes.data(), group_scales.data());
        BestCpuKernels().dequantize_scales(scale_codes.data(), group_scales.data(), blocks, offset, absmax.data());
        const double nested_absmax = ErrorOf(shape, x, codes, absmax, &absmax_groups);
        for (std::size_t g = 0; g < groups.size(); ++g) {
          CHECK(whole.losses[g].error == groups[g]);
          CHECK(whole.losses[g].absmax_floor <= absmax_groups[g]);
          CHECK(whole.losses[g].absmax_floor >= 0.8 * absmax_groups[g]);
        }
        CHECK_FALSE(GivesWay(whole.losses));
        CHECK(nested < nested_absmax);
        CHECK(ErrorOf(shape, x, whole.codes, whole.scales, nullptr) < plain_absmax);
      }
    }
  }
}

TEST_CASE("what absmax codes without a loss is left to it") {
  SlabShape shape;
  shape.scheme = Q4Scheme::kNf4;
  shape.block_size = 64;
  shape.type = FloatType::kF32;
  shape.elems = 64 * 300;
  std::vector<float> x(shape.elems);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? 0.5f : i % 3 == 1 ? -0.5f : 0.0f;
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(x.data());
  CHECK(GivesWay(EncodeMse(shape, {bytes, bytes + 4 * x.size()}, 1 << 20).losses));
  CHECK(GivesWay({}));
}

TEST_CASE("the first element that is not finite is found in whichever tile") {
  SlabShape shape;
  shape.scheme = Q4Scheme::kNf4;
  shape.block_size = 64;
  shape.type = FloatType::kF32;
  shape.elems = 4 * TileElems(64);
  std::vector<float> x(shape.elems, 0.5f);
  std::vector<float> scales(BlockCount(shape.elems, 64));
  std::vector<std::uint8_t> codes(PackedBytes(shape.elems));
  const Encoder& encoder = EncoderOf(Q4Encoder::kAbsmax);
  for (std::uint64_t bad = shape.elems - 1; bad > TileElems(64); bad -= TileElems(64) + 1) {
    x[bad] = std::numeric_limits<float>::infinity();
    TiledStats stats;
    CHECK(EncodeSlab(encoder, BestCpuKernels(), shape, reinterpret_cast<const std::uint8_t*>(x.data()), codes.data(),
                     scales.data(), nullptr, &stats) == bad);
  }
}

}  // namespace
}  // namespace q4
