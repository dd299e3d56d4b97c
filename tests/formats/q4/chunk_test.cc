#include "formats/q4/chunk.h"

#include <algorithm>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/base/zstd_codec.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

TEST_CASE("byte planes", "[q4][chunk]") {
  const test::Bytes raw = {1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(SplitPlanes(raw, 2) == test::Bytes{1, 3, 5, 7, 2, 4, 6, 8});
  CHECK(SplitPlanes(raw, 4) == test::Bytes{1, 5, 2, 6, 3, 7, 4, 8});
  for (const std::uint8_t planes : {std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{4}})
    CHECK(JoinPlanes(SplitPlanes(raw, planes), planes) == raw);
}

TEST_CASE("compression must save a sixteenth", "[q4][chunk]") {
  CHECK(CompressionPays(1600, 1500));
  CHECK_FALSE(CompressionPays(1600, 1501));
  CHECK(CompressionPays(16, 15));
  CHECK_FALSE(CompressionPays(16, 16));
  // Random bytes with a run of zeros, that zstd shrinks by less than a sixteenth resp. by more.
  test::Bytes raw(16'000);
  std::uint32_t state = 1;
  for (std::uint8_t& byte : raw) byte = static_cast<std::uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  for (const std::size_t zeros : {std::size_t{500}, std::size_t{2000}}) {
    test::Bytes bytes = raw;
    std::fill_n(bytes.begin(), zeros, std::uint8_t{0});
    const auto chunk = EncodeQ4Chunk({}, {}, bytes, 1, {true, 3});
    REQUIRE(chunk.ok());
    CHECK(chunk->entry.codec == (zeros < 1000 ? Q4Codec::kStored : Q4Codec::kZstd));
    CHECK(chunk->entry.plane_bytes == 1);
    CHECK(chunk->entry.raw_bytes == bytes.size());
    CHECK(chunk->entry.stored_bytes == chunk->stored.size());
    CHECK(chunk->entry.sha256 == Sha256Of(chunk->stored));
    CHECK(chunk->entry.xxh3 == Xxh3(chunk->stored, Q4ChunkSeed({}, {})));
    const auto decoded = DecodeQ4Chunk(chunk->entry, chunk->stored);
    REQUIRE(decoded.ok());
    CHECK(*decoded == bytes);
  }
}

TEST_CASE("planes are noted only when they are used", "[q4][chunk]") {
  test::Bytes raw(4096);
  for (std::size_t i = 0; i < raw.size(); i += 4) raw[i] = static_cast<std::uint8_t>(i * 37);
  const auto plain = EncodeQ4Chunk({}, {}, raw, 4, {});
  const auto compressed = EncodeQ4Chunk({}, {}, raw, 4, {true, 3});
  REQUIRE((plain.ok() && compressed.ok()));
  CHECK(plain->entry.plane_bytes == 1);
  CHECK(plain->stored == raw);
  CHECK(compressed->entry.plane_bytes == 4);
  CHECK(*DecompressZstd(compressed->stored, raw.size()) == SplitPlanes(raw, 4));
  CHECK(*DecodeQ4Chunk(compressed->entry, compressed->stored) == raw);
}

TEST_CASE("a damaged frame is an error wherever it is decoded to", "[q4][chunk]") {
  const std::uint8_t planes = GENERATE(std::uint8_t{1}, std::uint8_t{4});
  auto chunk = EncodeQ4Chunk({}, {}, test::Bytes(4096), planes, {true, 3});
  REQUIRE(chunk.ok());
  REQUIRE(chunk->entry.codec == Q4Codec::kZstd);
  test::Bytes joined(4096), scratch(4096);
  REQUIRE(DecodeQ4ChunkInto(chunk->entry, chunk->stored, scratch, joined).ok());
  chunk->stored.pop_back();
  CHECK(IssueNumberOf(DecodeQ4ChunkInto(chunk->entry, chunk->stored, scratch, joined)) == kZstdFrame.number);
  CHECK(IssueNumberOf(DecodeQ4Chunk(chunk->entry, chunk->stored).status()) == kZstdFrame.number);
}

TEST_CASE("equal bytes in another place have another digest", "[q4][chunk]") {
  const auto digest = [](const Sha256& file_id, const Q4ChunkPlace& place) {
    return EncodeQ4Chunk(file_id, place, test::Bytes(100), 1, {})->entry.xxh3;
  };
  Sha256 other{};
  other[31] = 1;
  const std::uint64_t here = digest({}, {Q4ChunkPlace::Section::kTensor, 1, 1});
  CHECK(here == digest({}, {Q4ChunkPlace::Section::kTensor, 1, 1}));
  CHECK(here != digest(other, {Q4ChunkPlace::Section::kTensor, 1, 1}));
  CHECK(here != digest({}, {Q4ChunkPlace::Section::kFile, 1, 1}));
  CHECK(here != digest({}, {Q4ChunkPlace::Section::kTensor, 2, 1}));
  CHECK(here != digest({}, {Q4ChunkPlace::Section::kTensor, 1, 2}));
}

}  // namespace
}  // namespace q4
