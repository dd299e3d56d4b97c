// Encoding: split planes, compress, keep the result only if it pays, digest what is kept. Decoding is the reverse,
// after the digest was checked by the reader. Planes are split only for zstd: it finds no repetition in numbers whose
// low bytes are noise, but finds plenty in their exponents once these stand side by side (F4.4).
#include "formats/q4/chunk.h"

#include <algorithm>
#include <utility>

#include "formats/base/status.h"
#include "formats/base/zstd_codec.h"
#include "formats/q4/layout.h"

namespace q4 {
namespace {

// The number of planes is a constant so that the compiler makes wide stores of it. Joining is on the path of every
// loader; splitting is hidden behind the compression.
template <std::size_t kPlanes>
void Interleave(std::span<const std::uint8_t> planes, std::uint8_t* raw) {
  const std::size_t items = planes.size() / kPlanes;
  for (std::size_t i = 0; i < items; ++i) {
    for (std::size_t plane = 0; plane < kPlanes; ++plane) raw[i * kPlanes + plane] = planes[plane * items + i];
  }
}

}  // namespace

// Plane by plane: writes are consecutive, and the strided reads of one plane come from lines that the next plane finds
// in the cache.
std::vector<std::uint8_t> SplitPlanes(std::span<const std::uint8_t> raw, std::uint8_t plane_bytes) {
  const std::size_t items = raw.size() / plane_bytes;
  std::vector<std::uint8_t> planes(raw.size());
  for (std::size_t plane = 0; plane < plane_bytes; ++plane) {
    std::uint8_t* out = planes.data() + plane * items;
    for (std::size_t i = 0; i < items; ++i) out[i] = raw[i * plane_bytes + plane];
  }
  return planes;
}

std::vector<std::uint8_t> JoinPlanes(std::span<const std::uint8_t> planes, std::uint8_t plane_bytes) {
  std::vector<std::uint8_t> raw(planes.size());
  JoinPlanesInto(planes, plane_bytes, raw);
  return raw;
}

// The cases are those of F3.4. With one plane, items and bytes are the same.
void JoinPlanesInto(std::span<const std::uint8_t> planes, std::uint8_t plane_bytes, std::span<std::uint8_t> raw) {
  if (plane_bytes == 2) {
    Interleave<2>(planes, raw.data());
  } else if (plane_bytes == 4) {
    Interleave<4>(planes, raw.data());
  } else {
    std::copy(planes.begin(), planes.end(), raw.begin());
  }
}

// The two enumerations agree in their values (F7.2): 1 for tensors, 2 for files.
std::uint64_t Q4ChunkSeed(const Sha256& file_id, const Q4ChunkPlace& place) {
  return Q4Seed(file_id, static_cast<Q4DigestSection>(place.section), place.owner, place.chunk);
}

absl::StatusOr<Q4EncodedChunk> EncodeQ4Chunk(const Sha256& file_id, const Q4ChunkPlace& place,
                                             std::vector<std::uint8_t> raw, std::uint8_t plane_bytes,
                                             const Q4Compression& compression) {
  Q4EncodedChunk chunk;
  chunk.entry.raw_bytes = static_cast<std::uint32_t>(raw.size());
  // A chunk that does not pay is stored as it is, and Planes is then 1 (F4.1): the split is undone by not using it.
  if (compression.zstd) {
    Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> frame,
                        plane_bytes == 1 ? CompressZstd(raw, compression.level)
                                         : CompressZstd(SplitPlanes(raw, plane_bytes), compression.level));
    if (CompressionPays(raw.size(), frame.size())) {
      chunk.entry.codec = Q4Codec::kZstd;
      chunk.entry.plane_bytes = plane_bytes;
      // The frame's buffer was made for the worst case; a queue of chunks should hold what they need.
      frame.shrink_to_fit();
      chunk.stored = std::move(frame);
    }
  }
  if (chunk.entry.codec == Q4Codec::kStored) chunk.stored = std::move(raw);
  chunk.entry.stored_bytes = static_cast<std::uint32_t>(chunk.stored.size());
  // Digests cover the stored bytes, so that they are checked before zstd sees anything.
  chunk.entry.xxh3 = Xxh3(chunk.stored, Q4ChunkSeed(file_id, place));
  chunk.entry.sha256 = Sha256Of(chunk.stored);
  return chunk;
}

absl::StatusOr<std::vector<std::uint8_t>> DecodeQ4Chunk(const Q4Chunk& chunk, std::vector<std::uint8_t> stored) {
  // That stored and raw size agree is a rule of the index, checked when it was opened.
  if (chunk.codec == Q4Codec::kStored) return stored;
  Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> planes, DecompressZstd(stored, chunk.raw_bytes));
  if (chunk.plane_bytes == 1) return planes;
  return JoinPlanes(planes, chunk.plane_bytes);
}

// Without planes zstd writes where the caller wants the bytes; with them it writes beside, and joining is the one copy.
absl::Status DecodeQ4ChunkInto(const Q4Chunk& chunk, std::span<const std::uint8_t> stored,
                               std::span<std::uint8_t> planes, std::span<std::uint8_t> raw) {
  if (chunk.plane_bytes == 1) return DecompressZstdInto(stored, raw);
  Q4_RETURN_IF_ERROR(DecompressZstdInto(stored, planes));
  JoinPlanesInto(planes, chunk.plane_bytes, raw);
  return absl::OkStatus();
}

}  // namespace q4
