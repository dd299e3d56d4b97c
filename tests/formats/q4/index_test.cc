#include "formats/q4/index.h"

#include <bit>
#include <string>
#include <string_view>

#include "formats/base/byte_writer.h"
#include "formats/q4/q4_issues.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using test::PutU32;
using test::PutU64;

std::uint64_t GetU64(const test::Bytes& bytes, std::size_t at) {
  return ByteReader(std::span<const std::uint8_t>(bytes).subspan(at)).U64();
}

// Where the table says what about section number `i` (from 0).
constexpr std::size_t KindAt(std::size_t i) { return 8 + 24 * i; }
constexpr std::size_t FlagsAt(std::size_t i) { return 12 + 24 * i; }
constexpr std::size_t OffsetAt(std::size_t i) { return 16 + 24 * i; }
constexpr std::size_t BytesAt(std::size_t i) { return 24 + 24 * i; }

// The index with one more section of `kind` behind the known ones.
test::Bytes WithSection(const test::Bytes& index, std::uint32_t kind, std::uint32_t flags, const test::Bytes& content) {
  ByteWriter out;
  out.U32(kQ4SectionCount + 1);
  out.U32(0);
  for (std::size_t i = 0; i < kQ4SectionCount; ++i) {
    ByteReader in(std::span<const std::uint8_t>(index).subspan(KindAt(i)));
    Q4SectionEntry entry = Q4SectionEntry::DecodeFrom(&in);
    entry.offset += Q4SectionEntry::kBytes;
    entry.EncodeTo(&out);
  }
  Q4SectionEntry{kind, flags, index.size() + Q4SectionEntry::kBytes, content.size()}.EncodeTo(&out);
  out.Bytes(std::span<const std::uint8_t>(index).subspan(8 + kQ4SectionCount * Q4SectionEntry::kBytes));
  out.Bytes(content);
  out.Zeros((8 - content.size() % 8) % 8);
  return out.Take();
}

absl::Status VerifyIndex(const ForgedContainer& original, test::Bytes index) {
  ForgedContainer forged = original;
  forged.index = std::move(index);
  return VerifySample(forged.Seal());
}

TEST_CASE("encoding and decoding are inverse", "[q4][index]") {
  const ForgedContainer forged(WriteSample(FullSample()));
  const auto index = DecodeQ4Index(forged.header, forged.index, "t.q4");
  REQUIRE(index.ok());
  CHECK(EncodeQ4Index(*index) == forged.index);
  CHECK(Q4IndexBytes(*index, index->chunks.size(), index->provenance.size()) == forged.index.size());
}

TEST_CASE("unknown optional sections are skipped, unknown required ones refused", "[q4][index]") {
  const ForgedContainer original(WriteSample(FullSample()));
  CHECK(VerifyIndex(original, WithSection(original.index, 8, 0, {1, 2, 3})).ok());
  CHECK(VerifyIndex(original, WithSection(original.index, 0x80000000, 0, {})).ok());
  const absl::Status refused = VerifyIndex(original, WithSection(original.index, 8, 1, {1, 2, 3}));
  CHECK(IssueNumberOf(refused) == kQ4UnknownSection.number);
  CHECK(ExitCodeOf(refused) == ExitCode::kUnsupported);
  CHECK(IssueNumberOf(VerifyIndex(original, WithSection(original.index, 8, 2, {}))) == kQ4SectionTable.number);
  CHECK(IssueNumberOf(VerifyIndex(original, WithSection(original.index, 7, 0, {}))) == kQ4SectionTable.number);
  // A skipped section is covered by the digest of the index all the same.
  ForgedContainer forged = original;
  forged.index = WithSection(original.index, 8, 0, {1, 2, 3});
  test::Bytes bytes = forged.Seal();
  bytes[bytes.size() - kQ4FooterBytes - 6] ^= 1;
  CHECK(IssueNumberOf(VerifySample(bytes)) == kQ4IndexDamaged.number);
}

TEST_CASE("a section table that lies is refused", "[q4][index]") {
  const ForgedContainer original(WriteSample(FullSample()));
  const auto check = [&original](const Issue& issue, const std::function<void(test::Bytes*)>& edit,
                                 std::string_view text = {}) {
    test::Bytes index = original.index;
    edit(&index);
    const absl::Status status = VerifyIndex(original, index);
    INFO(status.ToString());
    CHECK(IssueNumberOf(status) == issue.number);
    CHECK(MessageOf(status).find(text) != std::string::npos);
  };
  check(kQ4SectionTable, [](test::Bytes* index) { PutU32(index, 0, 8); });
  for (const std::uint32_t count : {0u, 6u, 65u, 0xFFFFFFFFu}) {
    check(
        kQ4SectionTable, [count](test::Bytes* index) { PutU32(index, 0, count); }, "Section_Count");
  }
  check(kQ4ReservedNotZero, [](test::Bytes* index) { PutU32(index, 4, 1); });
  for (std::size_t i = 0; i < kQ4SectionCount; ++i) {
    check(kQ4SectionTable, [i](test::Bytes* index) { PutU32(index, KindAt(i), 99); });
    check(kQ4SectionTable, [i](test::Bytes* index) { (*index)[FlagsAt(i)] ^= 1; });
    check(kQ4SectionTable, [i](test::Bytes* index) { (*index)[FlagsAt(i)] ^= 2; });
    check(kQ4SectionTable, [i](test::Bytes* index) { PutU64(index, OffsetAt(i), GetU64(*index, OffsetAt(i)) + 8); });
    check(kQ4SectionTable, [i](test::Bytes* index) { PutU64(index, OffsetAt(i), ~std::uint64_t{0}); });
    check(kQ4SectionTable, [i](test::Bytes* index) { PutU64(index, BytesAt(i), ~std::uint64_t{0}); });
    check(kQ4SectionTable, [i](test::Bytes* index) { PutU64(index, BytesAt(i), index->size()); });
  }
  check(kQ4SectionTable, [](test::Bytes* index) { index->resize(index->size() + 8); });
  check(kQ4SectionTable, [](test::Bytes* index) { index->resize(100); });
  check(
      kQ4SectionTable, [](test::Bytes* index) { index->resize(20); }, "too short for its section table");
  check(
      kQ4SectionTable, [](test::Bytes* index) { index->resize(3); }, "Section_Count");
  check(
      kQ4SectionTable, [](test::Bytes* index) { index->clear(); }, "Section_Count");
}

TEST_CASE("reserved bytes and padding of the index are zero", "[q4][index]") {
  const ForgedContainer original(WriteSample(FullSample()));
  const std::size_t tensors = GetU64(original.index, OffsetAt(0));
  const std::size_t names_end = GetU64(original.index, OffsetAt(2)) + GetU64(original.index, BytesAt(2));
  const std::size_t files = GetU64(original.index, OffsetAt(3));
  const std::size_t chunks = GetU64(original.index, OffsetAt(4));
  REQUIRE(names_end % 8 != 0);
  for (const std::size_t at :
       {tensors + 21, tensors + 23, tensors + 28, names_end, files + 12, original.index.size() - 1}) {
    test::Bytes index = original.index;
    REQUIRE(index[at] == 0);
    index[at] = 1;
    CHECK(IssueNumberOf(VerifyIndex(original, index)) == kQ4ReservedNotZero.number);
  }
  test::Bytes index = original.index;
  index[chunks + 18] = 1;
  CHECK(IssueNumberOf(VerifyIndex(original, index)) == kQ4ChunkCodec.number);
}

TEST_CASE("statistics that are announced must be there", "[q4][index]") {
  Q4Tensor tensor = QuantizedTensor("w", Q4Scheme::kNf4, {64}, 64, false);
  tensor.has_stats = false;
  tensor.stats = nullptr;
  Q4Sample sample;
  sample.Add(tensor);
  sample.Sort();
  const ForgedContainer original(WriteSample(sample));
  REQUIRE(VerifyIndex(original, original.index).ok());
  test::Bytes index = original.index;
  index[GetU64(index, OffsetAt(0)) + 20] |= Q4TensorRecord::kHasStats;
  const absl::Status status = VerifyIndex(original, index);
  CHECK(IssueNumberOf(status) == kQ4SectionContent.number);
  CHECK(MessageOf(status).find("section 6") != std::string::npos);
}

// Moves the border between two neighbouring sections, so that each holds more or less than its records say.
TEST_CASE("sections hold exactly what the records claim", "[q4][index]") {
  const ForgedContainer original(WriteSample(FullSample()));
  const std::size_t tensors = GetU64(original.index, OffsetAt(0));
  const std::size_t files = GetU64(original.index, OffsetAt(3));
  const auto check = [&](const Issue& issue, const std::function<void(test::Bytes*)>& edit,
                         std::string_view text = {}) {
    test::Bytes index = original.index;
    edit(&index);
    const absl::Status status = VerifyIndex(original, index);
    INFO(status.ToString());
    CHECK(IssueNumberOf(status) == issue.number);
    CHECK(MessageOf(status).find(text) != std::string::npos);
  };
  check(
      kQ4SectionContent, [&](test::Bytes* index) { PutU32(index, files + 8, 0xFFFFFFFF); }, "section 3");  // Name_Bytes
  // Half a record too few, where records end in a zero, so that it could pass for padding.
  for (const std::size_t section : {0, 3}) {
    check(
        kQ4SectionContent,
        [&](test::Bytes* index) { PutU64(index, BytesAt(section), GetU64(*index, BytesAt(section)) - 1); },
        "section " + std::to_string(section + 1));
  }
  check(kQ4SectionContent, [&](test::Bytes* index) { PutU32(index, tensors + 8, 0xFFFFFFFF); });  // Name_Bytes
  check(kQ4SectionContent, [&](test::Bytes* index) { (*index)[tensors + 17] = 255; });            // Rank
  check(kQ4SectionContent, [&](test::Bytes* index) { (*index)[tensors + 17] = 0; });
  check(kQ4TensorRecord, [&](test::Bytes* index) { (*index)[tensors + 20] = 4; });  // Flags
  check(kQ4SectionContent, [&](test::Bytes* index) { PutU64(index, BytesAt(2), GetU64(*index, BytesAt(2)) + 1); });
  check(kQ4ReservedNotZero, [&](test::Bytes* index) { PutU64(index, BytesAt(2), GetU64(*index, BytesAt(2)) - 1); });
  check(kQ4TensorRecord, [&](test::Bytes* index) { PutU64(index, tensors + 32, 1); });  // First_Chunk of "empty"
}

}  // namespace
}  // namespace q4
