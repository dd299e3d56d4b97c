// Bytes are checked where they were read to, while they are still in the cache, and before they are sent.
//
// Three ways to read an extent: stored chunks that fit a slot, by one read and one copy; a stored chunk that does not,
// slot by slot; a compressed chunk, through scratch memory. For host memory there are no slots, and everything fits.
#include "libconvert/load/extents.h"

#include <algorithm>
#include <utility>

#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/q4/chunk.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/validate.h"

namespace q4 {
namespace {

// What is to be known of a chunk to check it.
struct ChunkUse {
  const Q4Tensor* tensor;
  Q4Part part;
  std::uint64_t first_byte;  // in the part
  std::uint64_t seed;        // of its XXH3
};

// Parts are few, so they are searched one by one. REQUIRES: the chunk belongs to a tensor.
ChunkUse UseOf(const Q4Reader& reader, std::uint64_t chunk) {
  const Q4Tensor* tensor = reader.TensorOfChunk(chunk);
  const Q4PartList parts = tensor->parts();
  const Q4PartEntry* part = parts.begin();
  while (chunk - part->first_chunk >= part->chunk_count) ++part;
  Q4ChunkPlace place;
  // The digest's seed depends on where the chunk belongs (F7.2): a chunk that was moved elsewhere is found out.
  place.owner = static_cast<std::uint64_t>(tensor - reader.index().tensors.data());
  place.chunk = chunk - tensor->first_chunk;
  return {tensor, part->part, (chunk - part->first_chunk) * Q4ChunkRawSize(part->part),
          Q4ChunkSeed(reader.index().file_id, place)};
}

// The digests of a chunk whose stored bytes come in one or several pieces.
// SHA-256 is computed only when asked for: it costs several times as much as XXH3.
class ChunkDigests {
 public:
  ChunkDigests(LoadCheck check, std::uint64_t seed) : check_(check), xxh3_(seed) {}

  void Add(std::span<const std::uint8_t> piece) {
    xxh3_.Update(piece);
    if (check_ == LoadCheck::kSha256) sha256_.Update(piece);
  }

  absl::Status Compare(const Q4Reader& reader, std::uint64_t chunk) {
    const Q4Chunk& entry = reader.index().chunks[chunk];
    if (xxh3_.Digest() != entry.xxh3) return Fail(kQ4ChunkDamaged, reader.path(), reader.DescribeChunk(chunk));
    if (check_ == LoadCheck::kSha256 && sha256_.Finish() != entry.sha256) {
      return Fail(kQ4ChunkReplaced, reader.path(), reader.DescribeChunk(chunk));
    }
    return absl::OkStatus();
  }

 private:
  LoadCheck check_;
  Xxh3Stream xxh3_;
  Sha256Stream sha256_;
};

// XXH3 first: if it differs the bytes are damaged. If only SHA-256 differs, somebody has put other bytes there with a
// matching XXH3, which is another issue.
absl::Status CheckStored(const Q4Reader& reader, std::uint64_t chunk, const ChunkUse& use,
                         std::span<const std::uint8_t> stored, LoadCheck check) {
  const Q4Chunk& entry = reader.index().chunks[chunk];
  if (Xxh3(stored, use.seed) != entry.xxh3) return Fail(kQ4ChunkDamaged, reader.path(), reader.DescribeChunk(chunk));
  if (check == LoadCheck::kSha256 && Sha256Of(stored) != entry.sha256) {
    return Fail(kQ4ChunkReplaced, reader.path(), reader.DescribeChunk(chunk));
  }
  return absl::OkStatus();
}

// F3.6: a digest says that bytes are those that were written, not that scales are finite. Parts without fp32 values
// always hold. `first_byte` counts from the beginning of the chunk.
absl::Status CheckScales(const Q4Reader& reader, const ChunkUse& use, std::uint64_t first_byte,
                         std::span<const std::uint8_t> raw) {
  return ValidateQ4Scales(*use.tensor, use.part, raw, (use.first_byte + first_byte) / sizeof(float), reader.path());
}

// Bytes of the file on their way to `to`, staged and not yet sent.
absl::StatusOr<std::span<std::uint8_t>> ReadTo(std::uint8_t* to, const Q4Reader& reader, std::uint64_t offset,
                                               std::uint64_t bytes, bool uncached, Stager& stager) {
  // An uncached read brings whole pages, more than was asked for. A slot has room for that; read into host memory, it
  // would overwrite the neighbours.
  if (uncached && stager.has_slots()) return stager.StageUncached(to, bytes, reader.file(), offset);
  Q4_ASSIGN_OR_RETURN(const std::span<std::uint8_t> place, stager.Stage(to, bytes));
  Q4_RETURN_IF_ERROR(reader.file().ReadAt(offset, place));
  return place;
}

// The common case: one read and one copy for all chunks of the extent. The padding between them comes along; nobody
// looks at it, so it is not checked.
absl::Status ReadStoredExtent(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                              Stager& stager) {
  Q4_ASSIGN_OR_RETURN(const auto place, ReadTo(extent.to, reader, extent.offset, extent.bytes, uncached, stager));
  for (std::uint64_t i = 0; i < extent.chunk_count && check != LoadCheck::kNone; ++i) {
    const std::uint64_t chunk = extent.first_chunk + i;
    const Q4Chunk& entry = reader.index().chunks[chunk];
    const auto bytes = place.subspan(entry.offset - extent.offset, entry.stored_bytes);
    const ChunkUse use = UseOf(reader, chunk);
    Q4_RETURN_IF_ERROR(CheckStored(reader, chunk, use, bytes, check));
    Q4_RETURN_IF_ERROR(CheckScales(reader, use, 0, bytes));
  }
  return stager.Send();
}

// A chunk that is larger than a slot. Pieces are sent before the last one was checked; nobody will see them if that
// fails.
absl::Status ReadStoredInPieces(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                                Stager& stager) {
  const ChunkUse use = UseOf(reader, extent.first_chunk);
  ChunkDigests digests(check, use.seed);
  absl::Status scales;  // what is wrong with the digest explains what is wrong with the scales
  for (std::uint64_t done = 0; done < extent.bytes;) {
    // The capacity is a multiple of 4096, so no fp32 value is cut.
    const std::uint64_t bytes = std::min(stager.capacity(), extent.bytes - done);
    Q4_ASSIGN_OR_RETURN(const auto place,
                        ReadTo(extent.to + done, reader, extent.offset + done, bytes, uncached, stager));
    if (check != LoadCheck::kNone) {
      digests.Add(place);
      scales.Update(CheckScales(reader, use, done, place));
    }
    Q4_RETURN_IF_ERROR(stager.Send());
    done += bytes;
  }
  if (check == LoadCheck::kNone) return absl::OkStatus();
  Q4_RETURN_IF_ERROR(digests.Compare(reader, extent.first_chunk));
  return scales;
}

// Scratch memory holds the stored bytes, then the byte planes, and then the raw bytes if no slot is large enough for
// them. Where one is, planes are joined straight into the slot.
absl::Status ReadCompressed(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, Stager& stager) {
  const std::uint64_t chunk = extent.first_chunk;
  const Q4Chunk& entry = reader.index().chunks[chunk];
  const ChunkUse use = UseOf(reader, chunk);
  // Of host memory always.
  const bool fits = entry.raw_bytes <= stager.capacity();
  const std::span<std::uint8_t> scratch =
      stager.Scratch(extent.bytes + std::uint64_t{fits ? 1u : 2u} * entry.raw_bytes);
  const std::span<std::uint8_t> stored = scratch.first(extent.bytes);
  const std::span<std::uint8_t> planes = scratch.subspan(extent.bytes, entry.raw_bytes);
  Q4_RETURN_IF_ERROR(reader.file().ReadAt(extent.offset, stored));
  if (check != LoadCheck::kNone) Q4_RETURN_IF_ERROR(CheckStored(reader, chunk, use, stored, check));

  std::span<std::uint8_t> raw = scratch.last(entry.raw_bytes);
  // Only now, after the read: until here the copy from this slot could still be under way.
  if (fits) {
    Q4_ASSIGN_OR_RETURN(raw, stager.Stage(extent.to, entry.raw_bytes));
  }
  const absl::Status decoded = DecodeQ4ChunkInto(entry, stored, planes, raw);
  if (!decoded.ok()) return InFile(decoded, reader.path() + ": " + reader.DescribeChunk(chunk));
  if (check != LoadCheck::kNone) Q4_RETURN_IF_ERROR(CheckScales(reader, use, 0, raw));
  return fits ? stager.Send() : stager.Deliver(extent.to, raw);
}

// Of two places that need not lie in one block.
// In integers, which may wrap: the difference of pointers into two blocks is undefined.
std::uint64_t Distance(const std::uint8_t* from, const std::uint8_t* to) {
  return reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
}

}  // namespace

std::vector<ChunkExtent> CutIntoExtents(const Q4Model& model, std::span<const TensorTarget> targets,
                                        std::uint64_t extent_bytes) {
  std::vector<ChunkExtent> extents;
  // Greedy, in file order. An extent grows by the next chunk if both are stored, follow each other in the file and in
  // memory at equal distances, and fit the limit together. Distances differ where one chunk goes to the model's block
  // and the next to the scratch block.
  bool may_grow = false;  // the last extent, by stored chunks
  for (const TensorTarget& target : targets) {
    const Q4Index& index = model.reader(target.at).index();
    const Q4Tensor& tensor = model.tensor(target.at);
    const Q4PartList parts = tensor.parts();
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const Q4PartEntry& part = parts[p];
      for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
        const std::uint64_t number = part.first_chunk + i;
        const Q4Chunk& chunk = index.chunks[number];
        const bool stored = chunk.codec == Q4Codec::kStored;
        std::uint8_t* to = target.parts[p] + i * Q4ChunkRawSize(part.part);
        const std::uint64_t end = chunk.offset + chunk.stored_bytes;
        if (stored && may_grow && extents.back().shard == target.at.shard &&
            extents.back().first_chunk + extents.back().chunk_count == number &&
            Distance(extents.back().to, to) == chunk.offset - extents.back().offset &&
            end - extents.back().offset <= extent_bytes) {
          ++extents.back().chunk_count;
          extents.back().bytes = end - extents.back().offset;
        } else {
          extents.push_back({target.at.shard, number, 1, chunk.offset, chunk.stored_bytes, to, 0});
        }
        may_grow = stored;
      }
    }
    // A tensor with elements has at least one chunk, so the last extent is its own.
    if (tensor.elems != 0) ++extents.back().tensors;
  }
  return extents;
}

absl::Status ReadExtent(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                        Stager& stager) {
  if (reader.index().chunks[extent.first_chunk].codec != Q4Codec::kStored) {
    return ReadCompressed(reader, extent, check, stager);
  }
  return extent.bytes <= stager.capacity() ? ReadStoredExtent(reader, extent, check, uncached, stager)
                                           : ReadStoredInPieces(reader, extent, check, uncached, stager);
}

}  // namespace q4
