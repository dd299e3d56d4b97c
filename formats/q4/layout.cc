// Byte layouts, field after field in the order of the tables in docs/format.md, so that both can be read side by side.
// Encoder and decoder of a structure stand together.
//
// Order of checks in both DecodeFrom(): own digest, then version and features, then constants and ranges, so that a
// damaged field is never taken for a newer or a lying file.
#include "formats/q4/layout.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/q4/q4_issues.h"

namespace q4 {
namespace {

// The digest is the last field of header and footer and covers all before it; 72 bytes of either are used by fields.
constexpr std::uint64_t kHeaderDigestOffset = kQ4HeaderBytes - 8;
constexpr std::size_t kHeaderReservedBytes = kHeaderDigestOffset - 72;
constexpr std::uint64_t kFooterDigestOffset = kQ4FooterBytes - 8;
constexpr std::size_t kFooterReservedBytes = kFooterDigestOffset - 72;

// F1.4: reserved bytes are zero.
bool AllZero(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

// 32 bytes as they are; zeros where they do not fit, which the caller's ok() tells.
Sha256 ReadSha256(ByteReader* in) {
  Sha256 out{};
  const auto bytes = in->Bytes(out.size());
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

// Appends the digest of everything that was appended since `begin`.
// As a structure is encoded behind others, its own bytes begin at `begin` and not at 0.
void AppendDigest(std::size_t begin, std::uint64_t seed, ByteWriter* out) {
  out->U64(Xxh3(out->bytes().subspan(begin), seed));
}

}  // namespace

// The 52 bytes of F7.2: File_Id, Section (u32), Owner (u64), Chunk (u64), little-endian. On the stack, because it is
// made for each chunk.
std::uint64_t Q4Seed(const Sha256& file_id, Q4DigestSection section, std::uint64_t owner, std::uint64_t chunk) {
  std::array<std::uint8_t, 52> place{};
  // Written by hand and not through ByteWriter, which would allocate.
  std::copy(file_id.begin(), file_id.end(), place.begin());
  const auto put = [&place](std::size_t at, std::uint64_t value, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) place[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  };
  put(32, static_cast<std::uint32_t>(section), 4);
  put(36, owner, 8);
  put(44, chunk, 8);
  return Xxh3(place, 0);
}

// A stream, because header and index do not lie side by side in memory or in the file.
Sha256 Q4Root(std::span<const std::uint8_t> header, std::span<const std::uint8_t> index) {
  Sha256Stream stream;
  stream.Update(header);
  stream.Update(index);
  return stream.Finish();
}

void Q4Header::EncodeTo(ByteWriter* out) const {
  const std::size_t begin = out->size();
  out->Bytes(kQ4Magic);
  out->U32(version);
  // Header_Bytes repeats a constant: a reader of another version finds the end of the header by it.
  out->U32(static_cast<std::uint32_t>(kQ4HeaderBytes));
  out->U64(required_features);
  out->U64(optional_features);
  out->Bytes(file_id);
  out->U32(shard);
  out->U32(shard_count);
  out->Zeros(kHeaderReservedBytes);
  AppendDigest(begin, Q4Seed(file_id, Q4DigestSection::kHeader), out);
}

// All fields are read before the first check: the reader is safe beyond the end, and the digest needs the file id.
absl::StatusOr<Q4Header> Q4Header::DecodeFrom(std::span<const std::uint8_t> bytes, std::string_view path) {
  ByteReader in(bytes);
  Q4Header header;
  in.Bytes(kQ4Magic.size());
  header.version = in.U32();
  const std::uint32_t header_bytes = in.U32();
  header.required_features = in.U64();
  header.optional_features = in.U64();
  header.file_id = ReadSha256(&in);
  header.shard = in.U32();
  header.shard_count = in.U32();
  const auto reserved = in.Bytes(kHeaderReservedBytes);
  const std::uint64_t digest = in.U64();

  // The digest comes before the version, so that a damaged version field is not taken for a newer file (F9.1). Its
  // place and seed are those of all versions.
  if (!in.ok() || digest != Xxh3(bytes.first(kHeaderDigestOffset), Q4Seed(header.file_id, Q4DigestSection::kHeader))) {
    return Fail(kQ4HeaderDamaged, path, "header");
  }
  if (header.version > kQ4FormatVersion) {
    return Fail(kQ4NewerVersion, path, "header",
                fmt::format("needs version {}, this build reads <= {}", header.version, kQ4FormatVersion));
  }
  if (const std::uint64_t unknown = header.required_features & ~kQ4KnownFeatures; unknown != 0) {
    return Fail(kQ4UnknownFeature, path, "header", fmt::format("unknown bits {:#x}", unknown));
  }
  // From here on a broken rule is damage: the file needs nothing that this build does not know.
  if (header.version == 0) return Fail(kQ4HeaderField, path, "Version", GotExpected("0", "1"));
  if (header_bytes != kQ4HeaderBytes) {
    return Fail(kQ4HeaderField, path, "Header_Bytes", GotExpected(fmt::to_string(header_bytes), "4096"));
  }
  // The digest covers them, so that they are not zero is the writer's doing.
  if (!AllZero(reserved)) return Fail(kQ4ReservedNotZero, path, "header");
  // F2, Shard and Shard_Count: a file that is one of several says which.
  if (header.shard_count == 0 || header.shard_count > limits::kShards || header.shard >= header.shard_count) {
    return Fail(kQ4HeaderField, path, "Shard", fmt::format("{} of {}", header.shard, header.shard_count));
  }
  return header;
}

void Q4Footer::EncodeTo(const Sha256& file_id, ByteWriter* out) const {
  const std::size_t begin = out->size();
  out->Bytes(kQ4FooterMagic);
  out->U64(index_offset);
  out->U64(index_bytes);
  out->U64(file_bytes);
  out->U64(index_xxh3);
  out->Bytes(root);
  out->Zeros(kFooterReservedBytes);
  AppendDigest(begin, Q4Seed(file_id, Q4DigestSection::kFooter), out);
}

absl::StatusOr<Q4Footer> Q4Footer::DecodeFrom(std::span<const std::uint8_t> bytes, const Sha256& file_id,
                                              std::string_view path) {
  ByteReader in(bytes);
  const auto magic = in.Bytes(kQ4FooterMagic.size());
  Q4Footer footer;
  footer.index_offset = in.U64();
  footer.index_bytes = in.U64();
  footer.file_bytes = in.U64();
  footer.index_xxh3 = in.U64();
  footer.root = ReadSha256(&in);
  const auto reserved = in.Bytes(kFooterReservedBytes);
  const std::uint64_t digest = in.U64();

  // Without the magic the file does not end in a footer, whatever its last bytes are: it is incomplete (section 6).
  if (!in.ok() || !std::equal(magic.begin(), magic.end(), kQ4FooterMagic.begin())) {
    return Fail(kQ4IncompleteContainer, path, "footer");
  }
  // Seeded with the file id of the header, so the footer of another container fails too.
  if (digest != Xxh3(bytes.first(kFooterDigestOffset), Q4Seed(file_id, Q4DigestSection::kFooter))) {
    return Fail(kQ4FooterDamaged, path, "footer");
  }
  if (!AllZero(reserved)) return Fail(kQ4ReservedNotZero, path, "footer");
  return footer;
}

void Q4SectionEntry::EncodeTo(ByteWriter* out) const {
  out->U32(kind);
  out->U32(flags);
  out->U64(offset);
  out->U64(bytes);
}

Q4SectionEntry Q4SectionEntry::DecodeFrom(ByteReader* in) {
  Q4SectionEntry entry;
  entry.kind = in->U32();
  entry.flags = in->U32();
  entry.offset = in->U64();
  entry.bytes = in->U64();
  return entry;
}

// Section 1, 32 bytes: 3 reserved bytes fill the word of the five small fields, 4 the last one.
void Q4TensorRecord::EncodeTo(ByteWriter* out) const {
  out->U64(first_chunk);
  out->U32(name_bytes);
  out->U32(block_size);
  out->U8(dtype);
  out->U8(rank);
  out->U8(scheme);
  out->U8(encoder);
  out->U8(flags);
  out->Zeros(3);
  out->F32(nested_offset);
  out->U32(0);
}

// The caller has checked that the bytes are there. All fields are read even where the first reserved byte is not zero,
// so that the cursor stands behind the record.
bool Q4TensorRecord::DecodeFrom(ByteReader* in) {
  first_chunk = in->U64();
  name_bytes = in->U32();
  block_size = in->U32();
  dtype = in->U8();
  rank = in->U8();
  scheme = in->U8();
  encoder = in->U8();
  flags = in->U8();
  const bool zero = AllZero(in->Bytes(3));
  nested_offset = in->F32();
  return in->U32() == 0 && zero;
}

// Section 4, 16 bytes.
void Q4FileRecord::EncodeTo(ByteWriter* out) const {
  out->U64(raw_bytes);
  out->U32(name_bytes);
  out->U32(0);
}

bool Q4FileRecord::DecodeFrom(ByteReader* in) {
  raw_bytes = in->U64();
  name_bytes = in->U32();
  return in->U32() == 0;
}

// Section 5, 64 bytes. Digests come last, so that what places a chunk lies together.
void EncodeQ4ChunkRecord(const Q4Chunk& chunk, ByteWriter* out) {
  out->U64(chunk.offset);
  out->U32(chunk.stored_bytes);
  out->U32(chunk.raw_bytes);
  out->U8(static_cast<std::uint8_t>(chunk.codec));
  out->U8(chunk.plane_bytes);
  out->Bytes(chunk.reserved);
  out->U64(chunk.xxh3);
  out->Bytes(chunk.sha256);
}

// `codec` is compared as a number: the cast makes an enumerator of any byte.
bool DecodeQ4ChunkRecord(ByteReader* in, Q4Chunk* chunk) {
  chunk->offset = in->U64();
  chunk->stored_bytes = in->U32();
  chunk->raw_bytes = in->U32();
  const std::uint8_t codec = in->U8();
  chunk->codec = static_cast<Q4Codec>(codec);
  chunk->plane_bytes = in->U8();
  const bool zero = AllZero(in->Bytes(6));
  chunk->xxh3 = in->U64();
  chunk->sha256 = ReadSha256(in);
  return zero && codec <= static_cast<std::uint8_t>(Q4Codec::kZstd);
}

// The order of the fields is that of section 6 of the index, and so of Q4Stats, whose layout is the record's.
void EncodeQ4StatsRecord(const Q4Stats& stats, ByteWriter* out) {
  for (const std::uint64_t count : {stats.count, stats.zero_blocks, stats.tiny_blocks, stats.clipped, stats.overflow}) {
    out->U64(count);
  }
  for (const std::uint64_t count : stats.hist) out->U64(count);
  for (const double sum : {stats.sum_e, stats.sum_abs_e, stats.sum_e2, stats.sum_x2, stats.sum_xy}) out->F64(sum);
  out->F64(stats.max_abs_err);
  out->U64(stats.max_abs_err_index);
  out->F64(stats.max_gap_ratio);
  out->F64(stats.worst_block_e2);
  out->U64(stats.worst_block);
}

// The mirror image, in the same order.
void DecodeQ4StatsRecord(ByteReader* in, Q4Stats* stats) {
  for (std::uint64_t* count :
       {&stats->count, &stats->zero_blocks, &stats->tiny_blocks, &stats->clipped, &stats->overflow}) {
    *count = in->U64();
  }
  for (std::uint64_t& count : stats->hist) count = in->U64();
  for (double* sum : {&stats->sum_e, &stats->sum_abs_e, &stats->sum_e2, &stats->sum_x2, &stats->sum_xy}) {
    *sum = in->F64();
  }
  stats->max_abs_err = in->F64();
  stats->max_abs_err_index = in->U64();
  stats->max_gap_ratio = in->F64();
  stats->worst_block_e2 = in->F64();
  stats->worst_block = in->U64();
}

}  // namespace q4
