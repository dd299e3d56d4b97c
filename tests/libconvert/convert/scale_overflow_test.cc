#include "libconvert/convert/scale_overflow.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/source/checkpoint.h"
#include "libconvert/scheme/slab.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

// The largest finite value of the type.
float Largest(DType dtype) { return dtype == DType::kF16 ? 65504.0f : 0x1.FEp+127f; }

// A checkpoint of one tensor of ones, stored with nested scales that all decode to 0, but for those of block `large`:
// its elements are the largest of their type, and its scale decodes to `decoded`.
struct Model {
  MemoryFileSystem fs;
  std::unique_ptr<Checkpoint> checkpoint;
  Q4Tensor tensor;
  std::vector<std::uint8_t> scale_codes;
  std::vector<float> scales2;

  Model(DType dtype, std::uint64_t elems, std::uint32_t block_size, std::uint64_t large, float decoded) {
    std::vector<float> values(elems, 1.0f);
    tensor.dtype = dtype;
    tensor.elems = elems;
    tensor.shape = {elems};
    static_cast<QuantFormat&>(tensor) = {Q4Scheme::kNf4, block_size, true};
    tensor.encoder = Q4Encoder::kAbsmax;
    // With an offset of 0 the code of 1 decodes to its group's scale, and the code of 0 to 0.
    const std::span<const float, 256> map = NestedMap();
    const auto code_of = [&](float value) {
      return static_cast<std::uint8_t>(std::find(map.begin(), map.end(), value) - map.begin());
    };
    scale_codes.assign(tensor.blocks(), code_of(0.0f));
    scales2.assign(GroupCount(tensor.blocks()), 1.0f);
    if (large < tensor.blocks()) {
      scale_codes[large] = code_of(1.0f);
      scales2[large / kScaleGroup] = decoded;
      const std::uint64_t begin = large * block_size, end = std::min(begin + block_size, elems);
      std::fill(values.begin() + static_cast<std::ptrdiff_t>(begin), values.begin() + static_cast<std::ptrdiff_t>(end),
                Largest(dtype));
    }
    std::vector<std::uint8_t> bytes(elems * ItemSize(dtype));
    ScalarKernels().convert(FloatType::kF32, values.data(), elems, FloatTypeOf(dtype), bytes.data());
    fs["model"] = bytes;
    absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = fs.OpenForRead("model");
    REQUIRE(file.ok());
    SourceTensor source;
    source.dtype = dtype;
    source.shape = tensor.shape;
    source.elems = elems;
    source.bytes = bytes.size();
    source.extents = {{0, 0, bytes.size()}};
    CheckpointContent content;
    content.files = {{"model", *std::move(file)}};
    content.tensors = {source};
    checkpoint = std::make_unique<Checkpoint>(std::move(content));
  }

  bool Overflows() {
    const absl::StatusOr<bool> found = q4::Overflows(BestCpuKernels(), SourceReader(*checkpoint),
                                                     checkpoint->tensors()[0], tensor, scale_codes, scales2);
    REQUIRE(found.ok());
    return *found;
  }
};

TEST_CASE("one block that would overflow is found wherever it lies, and nothing but its piece is read") {
  for (const std::uint32_t block_size : {32u, 512u, 4096u}) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      const std::uint64_t elems = 3 * kOverflowPieceElems + 5 * block_size + 7;
      const std::uint64_t blocks = BlockCount(elems, block_size);
      for (const std::uint64_t large : {std::uint64_t{0}, kOverflowPieceElems / block_size, blocks / 2, blocks - 1}) {
        INFO("block size " << block_size << ", " << DTypeName(dtype) << ", block " << large);
        // Past the midpoint behind the largest value: infinite.
        Model model(dtype, elems, block_size, large, dtype == DType::kF16 ? 65530.0f : 0x1.FF8p+127f);
        CHECK(model.Overflows());
        const std::vector<LoggedRead> reads = model.fs.TakeReads();
        REQUIRE(reads.size() == 1);
        CHECK(reads[0].offset == large * block_size / kOverflowPieceElems * kOverflowPieceElems * ItemSize(dtype));
        CHECK(reads[0].bytes <= kOverflowPieceElems * ItemSize(dtype));
        // Before it: rounds down to the largest value.
        Model below(dtype, elems, block_size, large, dtype == DType::kF16 ? 65510.0f : 0x1.FE8p+127f);
        CHECK_FALSE(below.Overflows());
        CHECK(below.fs.TakeReads().empty());
      }
    }
  }
}

TEST_CASE("pieces are read until one overflows") {
  constexpr std::uint64_t kBlocksOfPiece = kOverflowPieceElems / 64;
  Model model(DType::kF16, 4 * kOverflowPieceElems, 64, 2 * kBlocksOfPiece, 65530.0f);
  // In the first piece a scale is as large, but its elements are not: none of them has the code of 1.
  model.scale_codes[0] = model.scale_codes[2 * kBlocksOfPiece];
  model.scales2[0] = 65530.0f;
  const auto x = model.fs["model"].begin();
  std::fill(x, x + 128, std::uint8_t{0});
  CHECK(model.Overflows());
  const std::vector<LoggedRead> reads = model.fs.TakeReads();
  REQUIRE(reads.size() == 2);
  CHECK(reads[0].offset == 0);
  CHECK(reads[1].offset == 2 * kOverflowPieceElems * 2);
}

}  // namespace
}  // namespace q4
