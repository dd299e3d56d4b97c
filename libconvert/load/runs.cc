// Bytes are checked where they were read to, while they are still in the cache, and before they are sent.
#include "libconvert/load/runs.h"

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

ChunkUse UseOf(const Q4Reader& reader, std::uint64_t chunk) {
  const Q4Tensor* tensor = reader.TensorOfChunk(chunk);
  const Q4PartList parts = tensor->parts();
  const Q4PartEntry* part = parts.begin();
  while (chunk - part->first_chunk >= part->chunk_count) ++part;
  Q4ChunkPlace place;
  place.owner = static_cast<std::uint64_t>(tensor - reader.index().tensors.data());
  place.chunk = chunk - tensor->first_chunk;
  return {tensor, part->part, (chunk - part->first_chunk) * Q4ChunkRawSize(part->part),
          Q4ChunkSeed(reader.index().file_id, place)};
}

// The digests of a chunk whose stored bytes come in one or several pieces.
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

absl::Status CheckStored(const Q4Reader& reader, std::uint64_t chunk, const ChunkUse& use,
                         std::span<const std::uint8_t> stored, LoadCheck check) {
  const Q4Chunk& entry = reader.index().chunks[chunk];
  if (Xxh3(stored, use.seed) != entry.xxh3) return Fail(kQ4ChunkDamaged, reader.path(), reader.DescribeChunk(chunk));
  if (check == LoadCheck::kSha256 && Sha256Of(stored) != entry.sha256) {
    return Fail(kQ4ChunkReplaced, reader.path(), reader.DescribeChunk(chunk));
  }
  return absl::OkStatus();
}

absl::Status CheckScales(const Q4Reader& reader, const ChunkUse& use, std::uint64_t first_byte,
                         std::span<const std::uint8_t> raw) {
  return ValidateQ4Scales(*use.tensor, use.part, raw, (use.first_byte + first_byte) / sizeof(float), reader.path());
}

// Bytes of the file on their way to `to`, staged and not yet sent.
absl::StatusOr<std::span<std::uint8_t>> ReadTo(std::uint8_t* to, const Q4Reader& reader, std::uint64_t offset,
                                               std::uint64_t bytes, bool uncached, LoadLane& lane) {
  if (uncached && lane.has_slots()) return lane.StageUncached(to, bytes, reader.file(), offset);
  Q4_ASSIGN_OR_RETURN(const std::span<std::uint8_t> place, lane.Stage(to, bytes));
  Q4_RETURN_IF_ERROR(reader.file().ReadAt(offset, place));
  return place;
}

absl::Status ReadStoredRun(const Q4Reader& reader, const ChunkRun& run, LoadCheck check, bool uncached,
                           LoadLane& lane) {
  Q4_ASSIGN_OR_RETURN(const auto place, ReadTo(run.to, reader, run.offset, run.bytes, uncached, lane));
  for (std::uint64_t i = 0; i < run.chunk_count && check != LoadCheck::kNone; ++i) {
    const std::uint64_t chunk = run.first_chunk + i;
    const Q4Chunk& entry = reader.index().chunks[chunk];
    const auto bytes = place.subspan(entry.offset - run.offset, entry.stored_bytes);
    const ChunkUse use = UseOf(reader, chunk);
    Q4_RETURN_IF_ERROR(CheckStored(reader, chunk, use, bytes, check));
    Q4_RETURN_IF_ERROR(CheckScales(reader, use, 0, bytes));
  }
  return lane.Send();
}

// A chunk that is larger than a slot. Pieces are sent before the last one was checked; nobody will see them if that
// fails.
absl::Status ReadStoredInPieces(const Q4Reader& reader, const ChunkRun& run, LoadCheck check, bool uncached,
                                LoadLane& lane) {
  const ChunkUse use = UseOf(reader, run.first_chunk);
  ChunkDigests digests(check, use.seed);
  absl::Status scales;  // what is wrong with the digest explains what is wrong with the scales
  for (std::uint64_t done = 0; done < run.bytes;) {
    const std::uint64_t bytes = std::min(lane.capacity(), run.bytes - done);
    Q4_ASSIGN_OR_RETURN(const auto place, ReadTo(run.to + done, reader, run.offset + done, bytes, uncached, lane));
    if (check != LoadCheck::kNone) {
      digests.Add(place);
      scales.Update(CheckScales(reader, use, done, place));
    }
    Q4_RETURN_IF_ERROR(lane.Send());
    done += bytes;
  }
  if (check == LoadCheck::kNone) return absl::OkStatus();
  Q4_RETURN_IF_ERROR(digests.Compare(reader, run.first_chunk));
  return scales;
}

absl::Status ReadCompressed(const Q4Reader& reader, const ChunkRun& run, LoadCheck check, LoadLane& lane) {
  const std::uint64_t chunk = run.first_chunk;
  const Q4Chunk& entry = reader.index().chunks[chunk];
  const ChunkUse use = UseOf(reader, chunk);
  const bool fits = entry.raw_bytes <= lane.capacity();
  const std::span<std::uint8_t> scratch = lane.Scratch(run.bytes + (fits ? 1 : 2) * entry.raw_bytes);
  const std::span<std::uint8_t> stored = scratch.first(run.bytes);
  const std::span<std::uint8_t> planes = scratch.subspan(run.bytes, entry.raw_bytes);
  Q4_RETURN_IF_ERROR(reader.file().ReadAt(run.offset, stored));
  if (check != LoadCheck::kNone) Q4_RETURN_IF_ERROR(CheckStored(reader, chunk, use, stored, check));

  std::span<std::uint8_t> raw = scratch.last(entry.raw_bytes);
  if (fits) {
    Q4_ASSIGN_OR_RETURN(raw, lane.Stage(run.to, entry.raw_bytes));
  }
  const absl::Status decoded = DecodeQ4ChunkInto(entry, stored, planes, raw);
  if (!decoded.ok()) return InFile(decoded, reader.path() + ": " + reader.DescribeChunk(chunk));
  if (check != LoadCheck::kNone) Q4_RETURN_IF_ERROR(CheckScales(reader, use, 0, raw));
  return fits ? lane.Send() : lane.Deliver(run.to, raw);
}

// Of two places that need not lie in one block.
std::uint64_t Distance(const std::uint8_t* from, const std::uint8_t* to) {
  return reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
}

}  // namespace

std::vector<ChunkRun> CutIntoRuns(const Q4Model& model, std::span<const TensorTarget> targets,
                                  std::uint64_t run_bytes) {
  std::vector<ChunkRun> runs;
  bool may_grow = false;  // the last run, by stored chunks
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
        if (stored && may_grow && runs.back().shard == target.at.shard &&
            runs.back().first_chunk + runs.back().chunk_count == number &&
            Distance(runs.back().to, to) == chunk.offset - runs.back().offset &&
            end - runs.back().offset <= run_bytes) {
          ++runs.back().chunk_count;
          runs.back().bytes = end - runs.back().offset;
        } else {
          runs.push_back({target.at.shard, number, 1, chunk.offset, chunk.stored_bytes, to, 0});
        }
        may_grow = stored;
      }
    }
    if (tensor.elems != 0) ++runs.back().tensors;
  }
  return runs;
}

absl::Status ReadRun(const Q4Reader& reader, const ChunkRun& run, LoadCheck check, bool uncached, LoadLane& lane) {
  if (reader.index().chunks[run.first_chunk].codec != Q4Codec::kStored) {
    return ReadCompressed(reader, run, check, lane);
  }
  return run.bytes <= lane.capacity() ? ReadStoredRun(reader, run, check, uncached, lane)
                                      : ReadStoredInPieces(reader, run, check, uncached, lane);
}

}  // namespace q4
