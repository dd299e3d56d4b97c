#include "libconvert/encode/encoder.h"

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

TEST_CASE("a reserved encoder has a name, and nothing else") {
  CHECK(EncoderNames() == std::vector<std::string>{"absmax", "mse"});
  CHECK(FindEncoder(Q4Encoder::kMse) == nullptr);
  CHECK(FindEncoder(Q4Encoder::kNone) == nullptr);
  CHECK(FindQ4Encoder("none") == nullptr);
  CHECK(FindQ4Encoder(static_cast<Q4Encoder>(3)) == nullptr);
}

TEST_CASE("every encoder that a container can name has its proof, and only one that runs is computed again") {
  for (const Q4EncoderRow& row : Q4EncoderRows()) {
    CHECK(&ProofOf(row.encoder) == &row.proof);
    CHECK((!row.proof.recompute || FindEncoder(row.encoder) != nullptr));
    // Absmax is the measure, and no honest encoder was ever twice as bad.
    CHECK((row.proof.most_error >= 1 && row.proof.most_error <= 2));
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
