// The fixed-size structures of a .q4 file, byte for byte as docs/format.md sections 2, 5 and 6 lay them out, and the
// digest seeds of section 7. Each knows how to write and read itself and checks what it can check alone: reserved
// bytes, constants, its own digest. What relates one structure to another is checked by validate.h, and index.h puts
// the records together. The values that callers work with are those of container.h.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/byte_reader.h"
#include "formats/base/byte_writer.h"
#include "formats/q4/container.h"

namespace q4 {

inline constexpr std::uint32_t kQ4FormatVersion = 1;  // the newest this build reads, and what it writes
inline constexpr std::uint64_t kQ4KnownFeatures = 0;  // bits of Required_Features that this build understands
// Sizes of the first and the last structure of a file, in bytes.
inline constexpr std::uint64_t kQ4HeaderBytes = 4096;
inline constexpr std::uint64_t kQ4FooterBytes = 128;
// Alignments in bytes: of segments and of the index in the file (F3.3), of further parts in a segment (F3.3), of
// sections in the index (F5.1). A segment begins with a page, so that it can be mapped or read past the page cache.
inline constexpr std::uint64_t kQ4SegmentAlignment = 4096;
inline constexpr std::uint64_t kQ4PartAlignment = 64;
inline constexpr std::uint64_t kQ4SectionAlignment = 8;
// The first and the last structure begin with these. As in PNG, a byte above 0x7F, both line ends and 0x1A show what
// text-mode transfers damage.
inline constexpr std::array<std::uint8_t, 8> kQ4Magic = {0x89, 'Q', '4', 'F', '\r', '\n', 0x1A, '\n'};
inline constexpr std::array<std::uint8_t, 8> kQ4FooterMagic = {'Q', '4', 'F', 'O', 'O', 'T', '\r', '\n'};

// F7.2: what a digest covers. Goes into its seed, so that the digest of one structure never holds for another.
enum class Q4DigestSection : std::uint32_t { kHeader = 0, kTensor = 1, kFile = 2, kIndex = 3, kFooter = 4 };

// F7.2: the seed of a digest. Header, index and footer have owner 0 and chunk 0. For chunks see Q4ChunkSeed().
std::uint64_t Q4Seed(const Sha256& file_id, Q4DigestSection section, std::uint64_t owner = 0, std::uint64_t chunk = 0);

// F7.4: what identifies a container. `header` has its kQ4HeaderBytes, `index` the whole index.
Sha256 Q4Root(std::span<const std::uint8_t> header, std::span<const std::uint8_t> index);

// Section 2: what must be known before anything else can be read.
struct Q4Header {
  std::uint32_t version = kQ4FormatVersion;
  // One bit each; all unknown bits of the first are refused, those of the second ignored (F9.1, F9.3).
  std::uint64_t required_features = 0;
  std::uint64_t optional_features = 0;
  Sha256 file_id{};               // F2.1; seeds every digest of the file
  std::uint32_t shard = 0;        // from 0
  std::uint32_t shard_count = 1;  // 1 .. limits::kShards

  // Appends kQ4HeaderBytes, digest included.
  void EncodeTo(ByteWriter* out) const;
  // `bytes` are the first kQ4HeaderBytes of the file; its magic was seen already. `path` is for messages. In this order
  // (F9.1): kQ4HeaderDamaged (exit code 6), kQ4NewerVersion and kQ4UnknownFeature (5), then kQ4HeaderField and
  // kQ4ReservedNotZero (6).
  static absl::StatusOr<Q4Header> DecodeFrom(std::span<const std::uint8_t> bytes, std::string_view path);
};

// Section 6: where the index lies, and what it must be. Written last, so a file that lacks it is incomplete.
struct Q4Footer {
  std::uint64_t index_offset = 0;  // from the start of the file
  std::uint64_t index_bytes = 0;
  std::uint64_t file_bytes = 0;  // of the whole file, this footer included
  std::uint64_t index_xxh3 = 0;  // seeded, over the index
  Sha256 root{};                 // Q4Root()

  // Appends kQ4FooterBytes, digest included.
  void EncodeTo(const Sha256& file_id, ByteWriter* out) const;
  // `bytes` are the last kQ4FooterBytes of the file, `file_id` that of its header: the footer of another file is
  // refused. kQ4IncompleteContainer without the magic, kQ4FooterDamaged, kQ4ReservedNotZero; exit code 6. Whether its
  // numbers fit the file is for the caller to check.
  static absl::StatusOr<Q4Footer> DecodeFrom(std::span<const std::uint8_t> bytes, const Sha256& file_id,
                                             std::string_view path);
};

// Section 5. Sections of version 1; each is present in every file, possibly empty, in this order (F5.2).
enum class Q4SectionKind : std::uint32_t {
  kTensors = 1,
  kDims = 2,
  kNames = 3,
  kFiles = 4,
  kChunks = 5,
  kStats = 6,
  kProvenance = 7,
};
inline constexpr std::uint32_t kQ4SectionCount = 7;
inline constexpr std::uint32_t kQ4MaxSections = 64;  // those that this build does not know included
// F5.2: whether a reader that does not know the section must refuse the file.
constexpr bool IsRequiredSection(Q4SectionKind kind) { return kind <= Q4SectionKind::kChunks; }

// A row of the section table.
struct Q4SectionEntry {
  static constexpr std::uint64_t kBytes = 24;
  std::uint32_t kind = 0;
  std::uint32_t flags = 0;   // bit 0: required
  std::uint64_t offset = 0;  // from the start of the index
  std::uint64_t bytes = 0;   // without padding

  void EncodeTo(ByteWriter* out) const;
  static Q4SectionEntry DecodeFrom(ByteReader* in);
};

// The records below decode into plain fields; DecodeFrom() returns false when reserved bytes are not zero. They read
// exactly kBytes; the caller has checked that so many are there.

// Section 1 of the index. The fields are as untrusted as the file: enumerations may be any number, until index.cc has
// made a Q4Tensor of them and ValidateQ4Tensor() has accepted it.
struct Q4TensorRecord {
  static constexpr std::uint64_t kBytes = 32;
  static constexpr std::uint8_t kNested = 1;  // bits of flags
  static constexpr std::uint8_t kHasStats = 2;
  std::uint64_t first_chunk = 0;
  std::uint32_t name_bytes = 0;  // in section 3
  std::uint32_t block_size = 0;  // elements; 0 when kept
  std::uint8_t dtype = 0;
  std::uint8_t rank = 0;  // dimensions in section 2
  std::uint8_t scheme = 0;
  std::uint8_t encoder = 0;
  std::uint8_t flags = 0;
  float nested_offset = 0;

  void EncodeTo(ByteWriter* out) const;
  bool DecodeFrom(ByteReader* in);
};

// Section 4 of the index. The chunks of files follow from the order: they are the first of the container.
struct Q4FileRecord {
  static constexpr std::uint64_t kBytes = 16;
  std::uint64_t raw_bytes = 0;
  std::uint32_t name_bytes = 0;

  void EncodeTo(ByteWriter* out) const;
  bool DecodeFrom(ByteReader* in);
};

// Section 5 of the index, field by field. An index is read in place instead (index.cc); the decoders serve the journal
// of a conversion, which holds the same records.
inline constexpr std::uint64_t kQ4ChunkRecordBytes = 64;
void EncodeQ4ChunkRecord(const Q4Chunk& chunk, ByteWriter* out);
// False when reserved bytes are not zero or the codec is unknown.
bool DecodeQ4ChunkRecord(ByteReader* in, Q4Chunk* chunk);

// Section 6 of the index. Any bits are a record; whether its numbers agree is checked by q4verify.
inline constexpr std::uint64_t kQ4StatsRecordBytes = 248;
void EncodeQ4StatsRecord(const Q4Stats& stats, ByteWriter* out);
void DecodeQ4StatsRecord(ByteReader* in, Q4Stats* stats);

}  // namespace q4
