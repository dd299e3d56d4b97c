// One chunk between its raw bytes and its stored bytes (docs/format.md sections 4 and 7): byte planes, zstd, digests.
// Pure functions of their arguments, for any thread: chunks of one tensor are encoded and decoded side by side, and
// only writer.h puts them in order. Where chunks begin and end in a part says parts.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"

namespace q4 {

// Whether to compress at all, and how hard. The result differs in size only: any reader reads either.
struct Q4Compression {
  bool zstd = false;
  // kMinZstdLevel .. kMaxZstdLevel of zstd_codec.h; of no meaning without zstd.
  int level = 3;
};

// Where a chunk belongs. With the file id it seeds the chunk's digest (F7.2), so that a chunk moved to another place or
// spliced in from another file is found out although its bytes are intact.
struct Q4ChunkPlace {
  // The values are those of Q4DigestSection and go into the seed.
  enum class Section : std::uint32_t { kTensor = 1, kFile = 2 };
  Section section = Section::kTensor;
  std::uint64_t owner = 0;  // index of the tensor (in name order) or of the embedded file
  std::uint64_t chunk = 0;  // running number over all chunks of the owner, parts in order
};

// A chunk ready to be appended.
struct Q4EncodedChunk {
  // Its record in the index, complete but for `offset`, which is set when it is appended.
  Q4Chunk entry;
  // entry.stored_bytes bytes.
  std::vector<std::uint8_t> stored;
};

// Compresses (if that saves at least 1/16 of the raw bytes: F4.3), splits byte planes (`plane_bytes` 1, 2 or 4, as
// Q4PlaneBytes() says; only when compressed) and digests one chunk. Same arguments, same result. `raw` is moved from
// when stored as is. Takes up to about twice the raw size in memory beside `raw` while it runs. Fails only where
// libzstd does (kZstdEncode, exit code 4).
//
// REQUIRES: raw.size() is a multiple of plane_bytes, 1 .. limits::kQ4ChunkRawBytes.
absl::StatusOr<Q4EncodedChunk> EncodeQ4Chunk(const Sha256& file_id, const Q4ChunkPlace& place,
                                             std::vector<std::uint8_t> raw, std::uint8_t plane_bytes,
                                             const Q4Compression& compression);

// The seed of the chunk's XXH3 (F7.2). Costs a digest of 52 bytes.
std::uint64_t Q4ChunkSeed(const Sha256& file_id, const Q4ChunkPlace& place);

// The raw bytes, chunk.raw_bytes of them. REQUIRES: `chunk` was validated, and `stored` holds its chunk.stored_bytes
// with the right digest. `stored` is moved from when stored as is. Errors (kZstdFrame, kZstdSize, kZstdDecode) have
// exit code 6 and name no file.
absl::StatusOr<std::vector<std::uint8_t>> DecodeQ4Chunk(const Q4Chunk& chunk, std::vector<std::uint8_t> stored);

// The same for a compressed chunk (Q4Codec::kZstd), into memory of the caller. `raw` has chunk.raw_bytes bytes, and so
// has `planes`, which is scratch space for the bytes before the planes are joined: its content afterwards is
// unspecified.
absl::Status DecodeQ4ChunkInto(const Q4Chunk& chunk, std::span<const std::uint8_t> stored,
                               std::span<std::uint8_t> planes, std::span<std::uint8_t> raw);

// F4.4, there and back: byte p of item i, at i * plane_bytes + p of the raw bytes, lies at p * items + i of the planes.
// Equal exponents thus come to stand side by side. REQUIRES: the number of bytes is a multiple of `plane_bytes`, which
// is 1, 2 or 4; `raw` of JoinPlanesInto() has as many bytes as `planes` and does not overlap it.
std::vector<std::uint8_t> SplitPlanes(std::span<const std::uint8_t> raw, std::uint8_t plane_bytes);
std::vector<std::uint8_t> JoinPlanes(std::span<const std::uint8_t> planes, std::uint8_t plane_bytes);
void JoinPlanesInto(std::span<const std::uint8_t> planes, std::uint8_t plane_bytes, std::span<std::uint8_t> raw);

// F4.3: whether a compressed chunk is small enough to be stored so. Below 1/16 of gain the time to decompress is worth
// more than the space. A reader checks the same rule.
constexpr bool CompressionPays(std::uint64_t raw_bytes, std::uint64_t stored_bytes) {
  return stored_bytes <= raw_bytes - raw_bytes / 16;
}

}  // namespace q4
