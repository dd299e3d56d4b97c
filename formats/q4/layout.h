// The fixed-size structures of a .q4 file, byte for byte as docs/format.md sections 2, 5 and 6 lay them out, and the
// digest seeds of section 7. Each knows how to write and read itself and checks what it can check alone: reserved
// bytes, constants, its own digest. What relates one structure to another is checked by q4_validate.h.
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
inline constexpr std::uint64_t kQ4HeaderBytes = 4096;
inline constexpr std::uint64_t kQ4FooterBytes = 128;
inline constexpr std::uint64_t kQ4SegmentAlignment = 4096;  // of segments and of the index (F3.3)
inline constexpr std::uint64_t kQ4PartAlignment = 64;
inline constexpr std::uint64_t kQ4SectionAlignment = 8;
inline constexpr std::array<std::uint8_t, 8> kQ4Magic = {0x89, 'Q', '4', 'F', '\r', '\n', 0x1A, '\n'};
inline constexpr std::array<std::uint8_t, 8> kQ4FooterMagic = {'Q', '4', 'F', 'O', 'O', 'T', '\r', '\n'};

// F7.2: what a digest covers.
enum class Q4DigestSection : std::uint32_t { kHeader = 0, kTensor = 1, kFile = 2, kIndex = 3, kFooter = 4 };

// F7.2: the seed of a digest. Header, index and footer have owner 0 and chunk 0.
std::uint64_t Q4Seed(const Sha256& file_id, Q4DigestSection section, std::uint64_t owner = 0, std::uint64_t chunk = 0);

// F7.4: what identifies a container.
Sha256 Q4Root(std::span<const std::uint8_t> header, std::span<const std::uint8_t> index);

// Section 2.
struct Q4Header {
  std::uint32_t version = kQ4FormatVersion;
  std::uint64_t required_features = 0;
  std::uint64_t optional_features = 0;
  Sha256 file_id{};
  std::uint32_t shard = 0;
  std::uint32_t shard_count = 1;

  // Appends kQ4HeaderBytes, digest included.
  void EncodeTo(ByteWriter* out) const;
  // `bytes` are the first kQ4HeaderBytes of the file; its magic was seen already. `path` is for messages.
  static absl::StatusOr<Q4Header> DecodeFrom(std::span<const std::uint8_t> bytes, std::string_view path);
};

// Section 6.
struct Q4Footer {
  std::uint64_t index_offset = 0;
  std::uint64_t index_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t index_xxh3 = 0;
  Sha256 root{};

  // Appends kQ4FooterBytes, digest included.
  void EncodeTo(const Sha256& file_id, ByteWriter* out) const;
  // `bytes` are the last kQ4FooterBytes of the file.
  static absl::StatusOr<Q4Footer> DecodeFrom(std::span<const std::uint8_t> bytes, const Sha256& file_id,
                                             std::string_view path);
};

// Section 5. Sections of version 1; each is present in every file.
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
inline constexpr std::uint32_t kQ4MaxSections = 64;
// F5.2: whether a reader that does not know the section must refuse the file.
constexpr bool IsRequiredSection(Q4SectionKind kind) { return kind <= Q4SectionKind::kChunks; }

struct Q4SectionEntry {
  static constexpr std::uint64_t kBytes = 24;
  std::uint32_t kind = 0;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  void EncodeTo(ByteWriter* out) const;
  static Q4SectionEntry DecodeFrom(ByteReader* in);
};

// The records below decode into plain fields; DecodeFrom() returns false when reserved bytes are not zero. They read
// exactly kBytes; the caller has checked that so many are there.

struct Q4TensorRecord {
  static constexpr std::uint64_t kBytes = 32;
  static constexpr std::uint8_t kNested = 1;  // bits of flags
  static constexpr std::uint8_t kHasStats = 2;
  std::uint64_t first_chunk = 0;
  std::uint32_t name_bytes = 0;
  std::uint32_t block_size = 0;
  std::uint8_t dtype = 0;
  std::uint8_t rank = 0;
  std::uint8_t scheme = 0;
  std::uint8_t encoder = 0;
  std::uint8_t flags = 0;
  float nested_offset = 0;

  void EncodeTo(ByteWriter* out) const;
  bool DecodeFrom(ByteReader* in);
};

struct Q4FileRecord {
  static constexpr std::uint64_t kBytes = 16;
  std::uint64_t raw_bytes = 0;
  std::uint32_t name_bytes = 0;

  void EncodeTo(ByteWriter* out) const;
  bool DecodeFrom(ByteReader* in);
};

inline constexpr std::uint64_t kQ4ChunkRecordBytes = 64;
void EncodeQ4ChunkRecord(const Q4Chunk& chunk, ByteWriter* out);
// False when reserved bytes are not zero or the codec is unknown.
bool DecodeQ4ChunkRecord(ByteReader* in, Q4Chunk* chunk);

inline constexpr std::uint64_t kQ4StatsRecordBytes = 248;
void EncodeQ4StatsRecord(const Q4Stats& stats, ByteWriter* out);
void DecodeQ4StatsRecord(ByteReader* in, Q4Stats* stats);

}  // namespace q4
