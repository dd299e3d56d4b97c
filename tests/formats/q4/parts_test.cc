#include "formats/q4/parts.h"

#include "tests/formats/q4/samples.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("a chunk of codes owns whole groups of 256 blocks of every block size", "[q4][parts]") {
  for (std::uint64_t block_size = 32; block_size <= 4096; block_size *= 2)
    CHECK(kQ4ChunkElems % (256 * block_size) == 0);
}

TEST_CASE("part sizes follow from the shape", "[q4][parts]") {
  const Q4Tensor plain = QuantizedTensor("w", Q4Scheme::kNf4, {3, 11}, 32, false);
  CHECK(Q4PartRawBytes(plain, Q4Part::kCodes) == 17);
  CHECK(Q4PartRawBytes(plain, Q4Part::kScales) == 8);
  const Q4Tensor nested = QuantizedTensor("w", Q4Scheme::kFp4, {32 * 256 + 1}, 32, true);
  CHECK(Q4PartRawBytes(nested, Q4Part::kCodes) == 4097);
  CHECK(Q4PartRawBytes(nested, Q4Part::kScaleCodes) == 257);
  CHECK(Q4PartRawBytes(nested, Q4Part::kScales2) == 8);
  CHECK(Q4PartRawBytes(RawTensor("t", DType::kC64, {2, 3}), Q4Part::kData) == 48);
  CHECK(Q4PartRawBytes(RawTensor("t", DType::kU8, {}), Q4Part::kData) == 1);
}

TEST_CASE("chunk counts at their borders", "[q4][parts]") {
  const auto codes = [](std::uint64_t elems) {
    Q4Tensor tensor = QuantizedTensor("w", Q4Scheme::kNf4, {elems}, 4096, false);
    tensor.first_chunk = 10;
    const Q4PartList parts = tensor.parts();
    REQUIRE(parts.size() == 2);
    CHECK(parts[0].first_chunk == 10);
    CHECK(parts[1].first_chunk == 10 + parts[0].chunk_count);
    CHECK(Q4ChunkCountOf(tensor) == parts[0].chunk_count + parts[1].chunk_count);
    CHECK(tensor.Part(Q4Part::kScales)->raw_bytes == parts[1].raw_bytes);
    CHECK_FALSE(tensor.Part(Q4Part::kScales2).has_value());
    return parts[0].chunk_count;
  };
  CHECK(codes(1) == 1);
  CHECK(codes(kQ4ChunkElems) == 1);
  CHECK(codes(kQ4ChunkElems + 1) == 2);
  CHECK(codes((std::uint64_t{1} << 48) - 1) == std::uint64_t{1} << 26);
  CHECK(Q4ChunkCountOf(RawTensor("t", DType::kF32, {kQ4ChunkBytes / 4})) == 1);
  CHECK(Q4ChunkCountOf(RawTensor("t", DType::kF32, {kQ4ChunkBytes / 4 + 1})) == 2);
  CHECK(Q4ChunkCountOf(RawTensor("t", DType::kF32, {0})) == 0);
  CHECK(Q4ChunkRawBytes(100, 64, 0) == 64);
  CHECK(Q4ChunkRawBytes(100, 64, 1) == 36);
}

TEST_CASE("planes by part and dtype", "[q4][parts]") {
  CHECK(Q4PlaneBytes(RawTensor("t", DType::kF32, {1}), Q4Part::kData) == 4);
  CHECK(Q4PlaneBytes(RawTensor("t", DType::kF16, {1}), Q4Part::kData) == 2);
  CHECK(Q4PlaneBytes(RawTensor("t", DType::kBF16, {1}), Q4Part::kData) == 2);
  CHECK(Q4PlaneBytes(RawTensor("t", DType::kF64, {1}), Q4Part::kData) == 1);
  CHECK(Q4PlaneBytes(RawTensor("t", DType::kI16, {1}), Q4Part::kData) == 1);
  const Q4Tensor tensor = QuantizedTensor("w", Q4Scheme::kNf4, {1}, 32, true);
  CHECK(Q4PlaneBytes(tensor, Q4Part::kCodes) == 1);
  CHECK(Q4PlaneBytes(tensor, Q4Part::kScaleCodes) == 1);
  CHECK(Q4PlaneBytes(tensor, Q4Part::kScales) == 4);
  CHECK(Q4PlaneBytes(tensor, Q4Part::kScales2) == 4);
}

}  // namespace
}  // namespace q4
