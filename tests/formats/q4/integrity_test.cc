// Promise P7: a container in which any byte was changed, lost, added or moved is refused by opening or verifying it.
#include <iostream>

#include "formats/q4/chunk.h"
#include "formats/q4/q4_issues.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("every flipped bit is found", "[q4][integrity]") {
  MemoryFileSystem fs;
  test::Bytes& bytes = fs["t.q4"];
  bytes = WriteSample(SmallSample());
  std::uint64_t flips = 0;
  std::uint64_t missed = 0;
  std::uint64_t wrong_exit_code = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[at] ^= static_cast<std::uint8_t>(1 << bit);
      const auto reader = Q4Reader::Open(fs, "t.q4");
      const absl::Status status = reader.ok() ? VerifyQ4Container(**reader) : reader.status();
      bytes[at] ^= static_cast<std::uint8_t>(1 << bit);
      ++flips;
      if (status.ok()) ++missed;
      // In the magic the file is no container; anywhere else it is a damaged one.
      const ExitCode expected = at < kQ4Magic.size() ? ExitCode::kInvalidInput : ExitCode::kCheckFailed;
      if (ExitCodeOf(status) != expected) ++wrong_exit_code;
    }
    if (at % 1024 == 0) fs.TakeReads();
  }
  CHECK(missed == 0);
  CHECK(wrong_exit_code == 0);
  CHECK(flips == 8 * bytes.size());
  std::cout << "q4_integrity: " << flips << " single-bit flips of " << bytes.size() << " bytes, " << missed
            << " missed\n";
}

TEST_CASE("every prefix is refused", "[q4][integrity]") {
  const test::Bytes bytes = WriteSample(SmallSample());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const absl::Status status =
        VerifySample(test::Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
    if (status.ok() ||
        ExitCodeOf(status) != (size < kQ4Magic.size() ? ExitCode::kInvalidInput : ExitCode::kCheckFailed)) {
      FAIL("prefix of " << size << " bytes: " << status.ToString());
    }
  }
}

TEST_CASE("every extension by one byte is refused", "[q4][integrity]") {
  const test::Bytes bytes = WriteSample(SmallSample());
  for (int last = 0; last < 256; ++last) {
    test::Bytes longer = bytes;
    longer.push_back(static_cast<std::uint8_t>(last));
    CHECK(ExitCodeOf(VerifySample(longer)) == ExitCode::kCheckFailed);
  }
}

// A bit of each byte, for every kind of part, compressed and not; and what the message then names.
TEST_CASE("damage is found in every kind of part and named", "[q4][integrity]") {
  const bool compressed = GENERATE(false, true);
  Q4Sample sample = FullSample();
  sample.compression.zstd = compressed;
  const test::Bytes bytes = WriteSample(sample);
  const OpenedSample intact = OpenSample(bytes);
  REQUIRE(intact.reader.ok());
  REQUIRE(VerifyQ4Container(**intact.reader).ok());
  const Q4Index& index = (*intact.reader)->index();
  for (std::size_t chunk = 0; chunk < index.chunks.size(); ++chunk) {
    for (std::uint64_t at = 0; at < index.chunks[chunk].stored_bytes; at += 97) {
      test::Bytes damaged = bytes;
      damaged[index.chunks[chunk].offset + at] ^= 0x10;
      const OpenedSample opened = OpenSample(std::move(damaged));
      REQUIRE(opened.reader.ok());
      std::vector<absl::Status> problems;
      VerifyQ4Container(**opened.reader, [&problems](const absl::Status& problem) { problems.push_back(problem); });
      REQUIRE(problems.size() == 1);
      CHECK(IssueNumberOf(problems[0]) == kQ4ChunkDamaged.number);
      CHECK(MessageOf(problems[0]).find((*intact.reader)->DescribeChunk(chunk)) != std::string::npos);
      CHECK_FALSE((*opened.reader)->ReadChunk(chunk).ok());
    }
  }
}

TEST_CASE("non-zero padding is found", "[q4][integrity]") {
  const test::Bytes bytes = WriteSample(FullSample());
  const OpenedSample intact = OpenSample(bytes);
  REQUIRE(intact.reader.ok());
  const Q4Index& index = (*intact.reader)->index();
  std::uint64_t end = kQ4HeaderBytes;
  std::uint64_t gaps = 0;
  const auto try_gap = [&](std::uint64_t begin) {
    for (std::uint64_t at = end; at < begin; ++at) {
      if (at != end && at + 1 != begin && at % 512 != 0) continue;
      test::Bytes damaged = bytes;
      damaged[at] = 1;
      CHECK(IssueNumberOf(VerifySample(std::move(damaged))) == kQ4PaddingNotZero.number);
      ++gaps;
    }
  };
  for (const Q4Chunk& chunk : index.chunks) {
    try_gap(chunk.offset);
    end = chunk.offset + chunk.stored_bytes;
  }
  try_gap((*intact.reader)->seal().index_offset);
  CHECK(gaps > 20);
}

// Counts for every byte of a file the digests and constants that cover it (F7.3).
TEST_CASE("every byte is covered exactly once", "[q4][integrity]") {
  const test::Bytes bytes = WriteSample(FullSample());
  const OpenedSample opened = OpenSample(bytes);
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  std::vector<int> covered(bytes.size());
  const auto cover = [&covered](std::uint64_t begin, std::uint64_t count) {
    for (std::uint64_t at = begin; at < begin + count; ++at) ++covered[at];
  };
  cover(0, kQ4HeaderBytes);                                      // digest and the value of the digest
  cover(bytes.size() - kQ4FooterBytes, kQ4FooterBytes);          // likewise
  cover(reader.seal().index_offset, reader.seal().index_bytes);  // digest in the footer
  // What verifying reads, chunk by chunk, and the tail.
  opened.fs->TakeReads();
  REQUIRE(reader.VerifyTail().ok());
  for (std::uint64_t chunk = 0; chunk < reader.index().chunks.size(); ++chunk) REQUIRE(reader.VerifyChunk(chunk).ok());
  for (const LoggedRead& read : opened.fs->TakeReads()) cover(read.offset, read.bytes);
  CHECK(std::count(covered.begin(), covered.end(), 1) == static_cast<std::ptrdiff_t>(bytes.size()));
}

// Two tensors of equal form, so that everything but the place of the bytes is right.
Q4Sample TwinSample(std::uint8_t file_id) {
  Q4Sample sample;
  sample.plan.file_id.fill(file_id);
  sample.Add(QuantizedTensor("a", Q4Scheme::kNf4, {64, 8}, 64, false));
  sample.Add(QuantizedTensor("b", Q4Scheme::kNf4, {64, 8}, 64, false));
  sample.Sort();
  return sample;
}

TEST_CASE("swapped and spliced chunks are found", "[q4][integrity]") {
  const test::Bytes bytes = WriteSample(TwinSample(1));
  const OpenedSample intact = OpenSample(bytes);
  REQUIRE(intact.reader.ok());
  const Q4Index& index = (*intact.reader)->index();
  REQUIRE(index.chunks.size() == 4);
  const auto at = [](test::Bytes& b, const Q4Chunk& chunk) {
    return b.begin() + static_cast<std::ptrdiff_t>(chunk.offset);
  };

  SECTION("bytes of two tensors") {
    test::Bytes swapped = bytes;
    REQUIRE(index.chunks[0].stored_bytes == index.chunks[2].stored_bytes);
    std::swap_ranges(at(swapped, index.chunks[0]), at(swapped, index.chunks[0]) + 256, at(swapped, index.chunks[2]));
    CHECK(IssueNumberOf(VerifySample(swapped)) == kQ4ChunkDamaged.number);
  }
  SECTION("bytes and index entries of two tensors, all other digests made anew") {
    test::Bytes swapped = bytes;
    std::swap_ranges(at(swapped, index.chunks[0]), at(swapped, index.chunks[0]) + 256, at(swapped, index.chunks[2]));
    ForgedContainer forged(swapped);
    forged.EditChunks([](std::vector<Q4Chunk>* chunks) {
      std::swap((*chunks)[0].xxh3, (*chunks)[2].xxh3);
      std::swap((*chunks)[0].sha256, (*chunks)[2].sha256);
    });
    CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4ChunkDamaged.number);
  }
  SECTION("a chunk of another file with other content") {
    Q4Sample other = TwinSample(2);
    for (auto& [name, parts] : other.parts) parts[Q4Part::kCodes].assign(parts[Q4Part::kCodes].size(), 0x77);
    const test::Bytes donor = WriteSample(other);
    test::Bytes spliced = bytes;
    std::copy_n(donor.begin() + static_cast<std::ptrdiff_t>(index.chunks[0].offset), 256, at(spliced, index.chunks[0]));
    CHECK(IssueNumberOf(VerifySample(spliced)) == kQ4ChunkDamaged.number);
  }
  SECTION("index and footer of another file over the same payload") {
    const test::Bytes donor = WriteSample(TwinSample(2));
    REQUIRE(donor.size() == bytes.size());
    test::Bytes spliced = bytes;
    const auto tail = static_cast<std::ptrdiff_t>((*intact.reader)->seal().index_offset);
    std::copy(donor.begin() + tail, donor.end(), spliced.begin() + tail);
    CHECK(IssueNumberOf(VerifySample(spliced)) == kQ4FooterDamaged.number);
  }
  SECTION("payload, index and footer of another file behind this header") {
    test::Bytes spliced = WriteSample(TwinSample(2));
    std::copy_n(bytes.begin(), kQ4HeaderBytes, spliced.begin());
    CHECK(IssueNumberOf(VerifySample(spliced)) == kQ4FooterDamaged.number);
  }
}

TEST_CASE("a chunk whose XXH3 was forged is found by its SHA-256", "[q4][integrity]") {
  test::Bytes bytes = WriteSample(SmallSample());
  const OpenedSample intact = OpenSample(bytes);
  REQUIRE(intact.reader.ok());
  const Q4Chunk& chunk = (*intact.reader)->index().chunks[0];
  bytes[chunk.offset] ^= 1;
  const std::span<const std::uint8_t> stored =
      std::span<const std::uint8_t>(bytes).subspan(chunk.offset, chunk.stored_bytes);
  // Chunk 0 is the first of the tensor that was written first, "w", number 1.
  const std::uint64_t forged_xxh3 =
      Xxh3(stored, Q4ChunkSeed((*intact.reader)->index().file_id, {Q4ChunkPlace::Section::kTensor, 1, 0}));
  ForgedContainer forged(bytes);
  forged.EditChunks([forged_xxh3](std::vector<Q4Chunk>* chunks) { chunks->front().xxh3 = forged_xxh3; });
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4ChunkReplaced.number);
}

}  // namespace
}  // namespace q4
