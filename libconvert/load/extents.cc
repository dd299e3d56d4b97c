// Bytes are checked where they were read to, while they are still in the cache, and before they are sent.
//
// Ways to read an extent: stored chunks that fit a slot, by one read and one copy; a stored chunk that does not, slot
// by slot; a compressed chunk, through scratch memory. For host memory there are no slots, and everything fits. A chunk
// of which only pieces are wanted, or whose scales are to be decoded, is read to scratch memory whole, for its digests
// cover all of it; what is wanted of it lies together at the target.
#include "libconvert/load/extents.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/q4/chunk.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/validate.h"
#include "kernels/kernels.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/scheme/stored_scales.h"

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

// The pages of a mapping, all at once, and with an error where touching them would be a signal: the file became
// shorter, or its storage failed. A system that does not know the request (Linux before 5.14) brings them when they are
// touched.
absl::Status BringMapped(const std::string& path, std::uint64_t offset, std::span<std::uint8_t> mapped) {
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ, which older headers lack
  const std::uintptr_t page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(mapped.data()) / page * page;
  const std::uint64_t bytes = reinterpret_cast<std::uintptr_t>(mapped.data()) + mapped.size() - begin;
  if (::madvise(reinterpret_cast<void*>(begin), bytes, kPopulateRead) == 0 || errno == EINVAL) return absl::OkStatus();
  return Fail(errno == ENOMEM ? kLoadHostMemory : kLoadMapping, path, fmt::format("bytes from {} on", offset),
              std::strerror(errno));
}

// Bytes of the file on their way to `to`, staged and not yet sent.
absl::StatusOr<std::span<std::uint8_t>> ReadTo(std::uint8_t* to, const Q4Reader& reader, const ChunkExtent& extent,
                                               std::uint64_t offset, std::uint64_t bytes, bool uncached,
                                               Stager& stager) {
  if (extent.mapped) {
    Q4_RETURN_IF_ERROR(BringMapped(reader.path(), offset, std::span(to, bytes)));
    return std::span(to, bytes);
  }
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
  Q4_ASSIGN_OR_RETURN(const auto place,
                      ReadTo(extent.to, reader, extent, extent.offset, extent.bytes, uncached, stager));
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
                        ReadTo(extent.to + done, reader, extent, extent.offset + done, bytes, uncached, stager));
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

// From the file to `stored`, checked.
absl::Status ReadAndCheck(const Q4Reader& reader, std::uint64_t chunk, const ChunkUse& use, LoadCheck check,
                          std::span<std::uint8_t> stored) {
  Q4_RETURN_IF_ERROR(reader.file().ReadAt(reader.index().chunks[chunk].offset, stored));
  return check == LoadCheck::kNone ? absl::OkStatus() : CheckStored(reader, chunk, use, stored, check);
}

// The raw bytes of a compressed chunk, by way of `planes`, which has room for as many.
absl::Status Decompress(const Q4Reader& reader, std::uint64_t chunk, const ChunkUse& use, LoadCheck check,
                        std::span<const std::uint8_t> stored, std::span<std::uint8_t> planes,
                        std::span<std::uint8_t> raw) {
  const absl::Status decoded = DecodeQ4ChunkInto(reader.index().chunks[chunk], stored, planes, raw);
  if (!decoded.ok()) return InFile(decoded, reader.path() + ": " + reader.DescribeChunk(chunk));
  return check == LoadCheck::kNone ? absl::OkStatus() : CheckScales(reader, use, 0, raw);
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
  Q4_RETURN_IF_ERROR(ReadAndCheck(reader, chunk, use, check, stored));

  std::span<std::uint8_t> raw = scratch.last(entry.raw_bytes);
  // Only now, after the read: until here the copy from this slot could still be under way.
  if (fits) {
    Q4_ASSIGN_OR_RETURN(raw, stager.Stage(extent.to, entry.raw_bytes));
  }
  Q4_RETURN_IF_ERROR(Decompress(reader, chunk, use, check, stored, planes, raw));
  return fits ? stager.Send() : stager.Deliver(extent.to, raw);
}

// What ReadRaw() needs.
std::uint64_t RawScratchBytes(const Q4Chunk& chunk) {
  return chunk.codec == Q4Codec::kStored ? chunk.raw_bytes : chunk.stored_bytes + std::uint64_t{2} * chunk.raw_bytes;
}

// All raw bytes of a chunk, checked. They lie in `scratch`.
absl::StatusOr<std::span<std::uint8_t>> ReadRaw(const Q4Reader& reader, std::uint64_t chunk, LoadCheck check,
                                                std::span<std::uint8_t> scratch) {
  const Q4Chunk& entry = reader.index().chunks[chunk];
  const ChunkUse use = UseOf(reader, chunk);
  const std::span<std::uint8_t> stored = scratch.first(entry.stored_bytes);
  Q4_RETURN_IF_ERROR(ReadAndCheck(reader, chunk, use, check, stored));
  if (entry.codec == Q4Codec::kStored) {
    if (check != LoadCheck::kNone) Q4_RETURN_IF_ERROR(CheckScales(reader, use, 0, stored));
    return stored;
  }
  const std::span<std::uint8_t> planes = scratch.subspan(entry.stored_bytes, entry.raw_bytes);
  const std::span<std::uint8_t> raw =
      scratch.subspan(entry.stored_bytes + std::uint64_t{entry.raw_bytes}, entry.raw_bytes);
  Q4_RETURN_IF_ERROR(Decompress(reader, chunk, use, check, stored, planes, raw));
  return raw;
}

// Sends what `runs` select of `bytes`, whose place in the sequence is `first`, to `to`.
absl::Status SendPieces(const Runs& runs, std::uint64_t first, std::span<std::uint8_t> bytes, std::uint8_t* to,
                        Stager& stager) {
  const std::uint64_t wanted = runs.Before(first + bytes.size()) - runs.Before(first);
  if (wanted <= stager.capacity()) {
    Q4_ASSIGN_OR_RETURN(const std::span<std::uint8_t> place, stager.Stage(to, wanted));
    GatherRuns(runs, first, bytes, place.data());
    return stager.Send();
  }
  GatherRuns(runs, first, bytes, bytes.data());
  return stager.Deliver(to, bytes.first(wanted));
}

// The chunk of group scales that belong to a chunk of scale codes: there is one, for a chunk has that of 2^21 * 256
// blocks, and a chunk of scale codes has 2^23.
std::uint64_t GroupsChunk(const Q4Tensor& tensor, std::uint64_t first_block) {
  const std::uint64_t first_byte = first_block / kQ4BlocksPerGroup * sizeof(float);
  return tensor.Part(Q4Part::kScales2)->first_chunk + first_byte / Q4ChunkRawSize(Q4Part::kScales2);
}

// Scales are decoded in pieces that stay in the cache: whole groups, and no more bytes than the usual slot has.
constexpr std::uint64_t kDecodedAtOnce = std::uint64_t{1} << 18;

absl::Status ReadScaleCodes(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, Stager& stager) {
  const ChunkUse use = UseOf(reader, extent.first_chunk);
  const std::uint64_t groups_chunk = GroupsChunk(*use.tensor, use.first_byte);
  const Q4Chunk& codes_entry = reader.index().chunks[extent.first_chunk];
  const std::uint64_t codes_scratch = RawScratchBytes(codes_entry);
  const std::span<std::uint8_t> scratch =
      stager.Scratch(codes_scratch + RawScratchBytes(reader.index().chunks[groups_chunk]));
  Q4_ASSIGN_OR_RETURN(const auto codes, ReadRaw(reader, extent.first_chunk, check, scratch.first(codes_scratch)));
  Q4_ASSIGN_OR_RETURN(const auto raw_groups, ReadRaw(reader, groups_chunk, check, scratch.subspan(codes_scratch)));
  const std::uint64_t first_group =
      use.first_byte / kQ4BlocksPerGroup * sizeof(float) % Q4ChunkRawSize(Q4Part::kScales2);
  // A copy, for the alignment of floats.
  std::vector<float> groups(CeilDiv(codes.size(), kQ4BlocksPerGroup));
  std::memcpy(groups.data(), raw_groups.data() + first_group, groups.size() * sizeof(float));

  const Runs& blocks = extent.pieces->part.runs;
  const Runs floats = {blocks.count, blocks.first * sizeof(float), blocks.length * sizeof(float),
                       blocks.stride * sizeof(float)};
  const StoredScales stored = {true, nullptr, codes.data(), groups.data(), use.tensor->nested_offset};
  // Threads take over the float environment of the program that loads; its rounding mode must not change values.
  const ScopedFloatEnvironment environment;
  std::vector<float> scales;
  std::uint8_t* to = extent.to;
  for (std::uint64_t first = 0; first < codes.size(); first += kDecodedAtOnce) {
    const std::uint64_t count = std::min<std::uint64_t>(kDecodedAtOnce, codes.size() - first);
    const std::uint64_t begin = (use.first_byte + first) * sizeof(float), end = begin + count * sizeof(float);
    const std::uint64_t wanted = floats.Before(end) - floats.Before(begin);
    if (wanted == 0) continue;
    DecodedScales(BestCpuKernels(), stored.Skip(first), count, &scales);
    const std::span<std::uint8_t> decoded(reinterpret_cast<std::uint8_t*>(scales.data()), end - begin);
    Q4_RETURN_IF_ERROR(SendPieces(floats, begin, decoded, to, stager));
    to += wanted;
  }
  return absl::OkStatus();
}

absl::Status ReadPieces(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, Stager& stager) {
  if (extent.pieces->part.decode) return ReadScaleCodes(reader, extent, check, stager);
  const std::span<std::uint8_t> scratch = stager.Scratch(RawScratchBytes(reader.index().chunks[extent.first_chunk]));
  Q4_ASSIGN_OR_RETURN(const std::span<std::uint8_t> raw, ReadRaw(reader, extent.first_chunk, check, scratch));
  return SendPieces(extent.pieces->part.runs, UseOf(reader, extent.first_chunk).first_byte, raw, extent.to, stager);
}

// Of two places that need not lie in one block.
// In integers, which may wrap: the difference of pointers into two blocks is undefined.
std::uint64_t Distance(const std::uint8_t* from, const std::uint8_t* to) {
  return reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
}

// Cuts in file order. An extent grows by the next chunk if both are stored, follow each other in the file and in memory
// at equal distances, in one region if they are of different parts, and fit the limit together.
class ExtentCutter {
 public:
  ExtentCutter(const Q4Model& model, std::uint64_t extent_bytes) : model_(model), extent_bytes_(extent_bytes) {}

  void Add(const TensorTarget& target) {
    const Q4PartList parts = model_.tensor(target.at).parts();
    for (const PartTarget& part : target.parts) {
      const Q4PartEntry& entry = parts[part.part.number];
      for (std::uint64_t i = 0; i < entry.chunk_count; ++i) AddChunk(target, part, entry, i);
    }
    if (!target.parts.empty()) ++extents_.back().tensors;
  }

  std::vector<ChunkExtent> Take() { return std::move(extents_); }

 private:
  void AddChunk(const TensorTarget& target, const PartTarget& part, const Q4PartEntry& entry, std::uint64_t i) {
    const Q4Index& index = model_.reader(target.at).index();
    const std::uint64_t number = entry.first_chunk + i;
    const Q4Chunk& chunk = index.chunks[number];
    const std::uint64_t first_byte = i * Q4ChunkRawSize(entry.part);
    const std::uint64_t before = part.part.runs.Before(first_byte);
    const std::uint64_t wanted = part.part.runs.Before(first_byte + chunk.raw_bytes) - before;
    if (wanted == 0) return;
    const bool as_it_is = wanted == chunk.raw_bytes && !part.part.decode;
    const bool stored = as_it_is && chunk.codec == Q4Codec::kStored;
    std::uint8_t* const to = part.to + before * (part.part.decode ? sizeof(float) : 1);
    if (stored && MayGrow(target.at.shard, number, part) && Reaches(chunk, to)) {
      ++extents_.back().chunk_count;
      extents_.back().bytes = chunk.offset + chunk.stored_bytes - extents_.back().offset;
    } else {
      extents_.push_back({target.at.shard, number, 1, chunk.offset, chunk.stored_bytes, to, 0, 0,
                          as_it_is ? nullptr : &part, part.mapped});
    }
    extents_.back().stored_bytes += chunk.stored_bytes;
    if (part.part.decode) CountGroups(target, index, first_byte);
    last_ = stored ? &part : nullptr;
  }

  // By the chunk that is next and its part.
  bool MayGrow(std::size_t shard, std::uint64_t number, const PartTarget& part) const {
    if (last_ == nullptr) return false;
    const ChunkExtent& extent = extents_.back();
    return extent.shard == shard && extent.first_chunk + extent.chunk_count == number &&
           (last_ == &part || (last_->region == part.region && part.region >= 0));
  }

  // By its place.
  bool Reaches(const Q4Chunk& chunk, const std::uint8_t* to) const {
    const ChunkExtent& extent = extents_.back();
    return Distance(extent.to, to) == chunk.offset - extent.offset &&
           chunk.offset + chunk.stored_bytes - extent.offset <= extent_bytes_;
  }

  // Group scales that are read along, once for all chunks that need them.
  void CountGroups(const TensorTarget& target, const Q4Index& index, std::uint64_t first_block) {
    const Q4Tensor& tensor = model_.tensor(target.at);
    const std::uint64_t chunk = GroupsChunk(tensor, first_block);
    if (groups_of_ == &tensor && groups_chunk_ == chunk) return;
    extents_.back().stored_bytes += index.chunks[chunk].stored_bytes;
    groups_of_ = &tensor;
    groups_chunk_ = chunk;
  }

  const Q4Model& model_;
  const std::uint64_t extent_bytes_;
  std::vector<ChunkExtent> extents_;
  const PartTarget* last_ = nullptr;  // of the last chunk, if its extent may grow
  // The group scales that were counted last.
  const Q4Tensor* groups_of_ = nullptr;
  std::uint64_t groups_chunk_ = 0;
};

}  // namespace

std::vector<ChunkExtent> CutIntoExtents(const Q4Model& model, std::span<const TensorTarget> targets,
                                        std::uint64_t extent_bytes) {
  ExtentCutter cutter(model, extent_bytes);
  for (const TensorTarget& target : targets) cutter.Add(target);
  return cutter.Take();
}

absl::Status ReadExtent(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                        Stager& stager) {
  if (extent.pieces != nullptr) return ReadPieces(reader, extent, check, stager);
  if (reader.index().chunks[extent.first_chunk].codec != Q4Codec::kStored) {
    return ReadCompressed(reader, extent, check, stager);
  }
  return extent.bytes <= stager.capacity() ? ReadStoredExtent(reader, extent, check, uncached, stager)
                                           : ReadStoredInPieces(reader, extent, check, uncached, stager);
}

}  // namespace q4
