#include "formats/q4/layout.h"

#include "formats/q4/q4_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("seeds are what docs/format.md says", "[q4][layout]") {
  // Computed with python-xxhash from struct.pack("<32sIQQ", bytes(range(32)), 1, 2, 3).
  Sha256 file_id{};
  for (std::size_t i = 0; i < file_id.size(); ++i) file_id[i] = static_cast<std::uint8_t>(i);
  CHECK(Q4Seed(file_id, Q4DigestSection::kTensor, 2, 3) == 0x7E6B1957AA2A940Du);
  CHECK(Q4Seed(file_id, Q4DigestSection::kTensor, 3, 2) != Q4Seed(file_id, Q4DigestSection::kTensor, 2, 3));
  CHECK(Q4Seed(file_id, Q4DigestSection::kFile, 2, 3) != Q4Seed(file_id, Q4DigestSection::kTensor, 2, 3));
  CHECK(Q4Seed({}, Q4DigestSection::kTensor, 2, 3) != Q4Seed(file_id, Q4DigestSection::kTensor, 2, 3));
}

TEST_CASE("a header survives encoding", "[q4][layout]") {
  Q4Header header;
  header.optional_features = 5;
  header.file_id.fill(7);
  header.shard = 3;
  header.shard_count = 9;
  ByteWriter out;
  header.EncodeTo(&out);
  REQUIRE(out.size() == kQ4HeaderBytes);
  const auto decoded = Q4Header::DecodeFrom(out.bytes(), "t.q4");
  REQUIRE(decoded.ok());
  CHECK(decoded->version == 1);
  CHECK(decoded->optional_features == 5);
  CHECK(decoded->file_id == header.file_id);
  CHECK(decoded->shard == 3);
  CHECK(decoded->shard_count == 9);
  CHECK(IssueNumberOf(Q4Header::DecodeFrom(out.bytes().first(4000), "t.q4").status()) == kQ4HeaderDamaged.number);
}

// Writes `bytes`, whose last eight are a digest, again with the right digest.
std::vector<std::uint8_t> Redigested(std::vector<std::uint8_t> bytes, std::uint64_t seed) {
  ByteWriter out;
  out.Bytes(std::span<const std::uint8_t>(bytes).first(bytes.size() - 8));
  out.U64(Xxh3(out.bytes(), seed));
  return out.Take();
}

TEST_CASE("reserved bytes are checked behind a right digest", "[q4][layout]") {
  ByteWriter header_out;
  Q4Header{}.EncodeTo(&header_out);
  std::vector<std::uint8_t> header = header_out.Take();
  for (const std::size_t at : {std::size_t{72}, std::size_t{4087}}) {
    std::vector<std::uint8_t> edited = header;
    edited[at] = 1;
    edited = Redigested(edited, Q4Seed({}, Q4DigestSection::kHeader));
    CHECK(IssueNumberOf(Q4Header::DecodeFrom(edited, "t.q4").status()) == kQ4ReservedNotZero.number);
  }
  header[12] = 1;  // Header_Bytes
  header = Redigested(header, Q4Seed({}, Q4DigestSection::kHeader));
  CHECK(IssueNumberOf(Q4Header::DecodeFrom(header, "t.q4").status()) == kQ4HeaderField.number);

  ByteWriter footer_out;
  Q4Footer{}.EncodeTo({}, &footer_out);
  std::vector<std::uint8_t> footer = footer_out.Take();
  REQUIRE(footer.size() == kQ4FooterBytes);
  CHECK(Q4Footer::DecodeFrom(footer, {}, "t.q4").ok());
  footer[119] = 1;
  footer = Redigested(footer, Q4Seed({}, Q4DigestSection::kFooter));
  CHECK(IssueNumberOf(Q4Footer::DecodeFrom(footer, {}, "t.q4").status()) == kQ4ReservedNotZero.number);
}

TEST_CASE("records have the sizes of the specification", "[q4][layout]") {
  ByteWriter out;
  Q4TensorRecord{}.EncodeTo(&out);
  CHECK(out.Take().size() == 32);
  Q4FileRecord{}.EncodeTo(&out);
  CHECK(out.Take().size() == 16);
  EncodeQ4ChunkRecord({}, &out);
  CHECK(out.Take().size() == 64);
  EncodeQ4StatsRecord({}, &out);
  CHECK(out.Take().size() == 248);
  Q4SectionEntry{}.EncodeTo(&out);
  CHECK(out.Take().size() == 24);
}

}  // namespace
}  // namespace q4
