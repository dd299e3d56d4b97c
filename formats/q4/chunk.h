// One chunk between its raw bytes and its stored bytes (docs/format.md sections 4 and 7). Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"

namespace q4 {

struct Q4Compression {
  bool zstd = false;
  int level = 3;
};

// Where a chunk belongs; with the file id it seeds the chunk's digest, so that a moved chunk is found out.
struct Q4ChunkPlace {
  enum class Section : std::uint32_t { kTensor = 1, kFile = 2 };
  Section section = Section::kTensor;
  std::uint64_t owner = 0;  // index of the tensor (in name order) or of the embedded file
  std::uint64_t chunk = 0;  // running number over all chunks of the owner, parts in order
};

struct Q4EncodedChunk {
  Q4Chunk entry;                     // offset is set when it is appended
  std::vector<std::uint8_t> stored;  // the stored bytes
};

// Compresses (if that saves at least 1/16 of the raw bytes: F4.3), splits byte planes (`plane_bytes` 1, 2 or 4, as
// Q4PlaneBytes() says; only when compressed) and digests one chunk. Same arguments, same result. `raw` is moved from
// when stored as is. REQUIRES: raw.size() is a multiple of plane_bytes, 1 .. limits::kQ4ChunkRawBytes.
absl::StatusOr<Q4EncodedChunk> EncodeQ4Chunk(const Sha256& file_id, const Q4ChunkPlace& place,
                                             std::vector<std::uint8_t> raw, std::uint8_t plane_bytes,
                                             const Q4Compression& compression);

// The seed of the chunk's XXH3 (F7.2).
std::uint64_t Q4ChunkSeed(const Sha256& file_id, const Q4ChunkPlace& place);

// The raw bytes. `stored` holds chunk.stored_bytes; its digest was checked. `stored` is moved from when stored as is.
// Errors have exit code 6 and name no file.
absl::StatusOr<std::vector<std::uint8_t>> DecodeQ4Chunk(const Q4Chunk& chunk, std::vector<std::uint8_t> stored);

// The same for a compressed chunk, into memory of the caller. `raw` has chunk.raw_bytes, and so has `planes`, which is
// overwritten with what nobody needs.
absl::Status DecodeQ4ChunkInto(const Q4Chunk& chunk, std::span<const std::uint8_t> stored,
                               std::span<std::uint8_t> planes, std::span<std::uint8_t> raw);

// F4.4. `raw_bytes` is a multiple of `plane_bytes`.
std::vector<std::uint8_t> SplitPlanes(std::span<const std::uint8_t> raw, std::uint8_t plane_bytes);
std::vector<std::uint8_t> JoinPlanes(std::span<const std::uint8_t> planes, std::uint8_t plane_bytes);
void JoinPlanesInto(std::span<const std::uint8_t> planes, std::uint8_t plane_bytes, std::span<std::uint8_t> raw);

// F4.3: whether a compressed chunk is small enough to be stored so.
constexpr bool CompressionPays(std::uint64_t raw_bytes, std::uint64_t stored_bytes) {
  return stored_bytes <= raw_bytes - raw_bytes / 16;
}

}  // namespace q4
