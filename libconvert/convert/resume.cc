// From a journal to a writer that goes on where the earlier run ended. Three questions, each asked of what the one
// before has left:
//
//   ReadJournal        does it say what this plan would have written, owner by owner, in its order?
//   CheckStoredBytes   do the partial files hold that: header, zeros between chunks, the XXH3 of each chunk?
//   Replay             the writer's calls again, with the chunks that are there in place of new ones
//
// Whatever fails shortens what is believed to the owners before it, or to nothing. Nothing here is an error: the work
// that is not believed is done again.
#include "libconvert/convert/resume.h"

#include <algorithm>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/byte_writer.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/encoders.h"
#include "formats/q4/layout.h"
#include "formats/q4/parts.h"
#include "formats/q4/validate.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/version.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/source_check.h"
#include "libconvert/convert/tensor_job.h"
#include "libconvert/engine/device.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

// In bytes. As the index of a container, which lists the same chunks.
constexpr std::uint64_t kLongestJournal = limits::kQ4IndexBytes;

// The plan's view of one owner.
struct PlannedOwner {
  std::size_t shard = 0;
  std::uint64_t number = 0;               // in the shard's order of writing
  const PlannedTensor* tensor = nullptr;  // nullptr: an embedded file

  // Its index among the shard's tensors or files, as digests and writer count them.
  std::uint64_t index() const { return tensor != nullptr ? tensor->tensor : number; }
};

PlannedOwner OwnerAt(const ConversionPlan& plan, std::size_t shard, std::uint64_t number) {
  const PlannedShard& planned = plan.shards[shard];
  const std::uint64_t files = planned.files.size();
  return {shard, number, number < files ? nullptr : &planned.tensors[number - files]};
}

// The sizes of the chunks that an owner must have, before compression.
std::vector<std::uint64_t> RawChunkSizes(const PlannedOwner& owner, const ConversionPlan& plan,
                                         const Q4Tensor& settled) {
  std::vector<std::uint64_t> sizes;
  const auto add = [&](std::uint64_t bytes, std::uint64_t chunk_size) {
    for (std::uint64_t at = 0; at < bytes; at += chunk_size) sizes.push_back(std::min(chunk_size, bytes - at));
  };
  if (owner.tensor == nullptr) {
    add(plan.shards[owner.shard].index.files[owner.number].raw_bytes, kQ4ChunkBytes);
  } else {
    for (const Q4Part part : Q4PartKindsOf(settled)) add(Q4PartRawBytes(settled, part), Q4ChunkRawSize(part));
  }
  return sizes;
}

const Q4Tensor& PlannedEntry(const PlannedOwner& owner, const ConversionPlan& plan) {
  return plan.shards[owner.shard].index.tensors[owner.tensor->tensor];
}

// Whether a run of this plan can have written `got` for `owner`. Its chunks must have the sizes that its settled
// treatment asks for; the container's own rules for a tensor must hold, because the index will be made of it.
bool FollowsPlan(const JournalOwner& got, const PlannedOwner& owner, const Checkpoint& checkpoint,
                 const ConversionPlan& plan, const ConvertOptions& options) {
  if (got.shard != owner.shard || got.number != owner.number) return false;
  Q4Tensor settled;
  if (owner.tensor != nullptr) {
    const Q4Tensor& planned = PlannedEntry(owner, plan);
    // Data changes the treatment of tensors that were to be quantized, never of others.
    if (!planned.quantized() && got.treatment != JournalOwner::Treatment::kAsPlanned) return false;
    if (got.treatment == JournalOwner::Treatment::kLeftToAbsmax && !ProofOf(planned.encoder).nested_gives_way) {
      return false;
    }
    settled = SettledTensor(planned, checkpoint.tensors()[owner.tensor->source], got, options);
    if (!ValidateQ4Tensor(settled, {}).ok() || settled.has_stats != got.stats.has_value()) return false;
  }
  const std::vector<std::uint64_t> sizes = RawChunkSizes(owner, plan, settled);
  // Stored chunks have their raw size; compressed ones were stored so only because it paid (F4.3).
  return std::equal(
      got.chunks.begin(), got.chunks.end(), sizes.begin(), sizes.end(), [](const Q4Chunk& chunk, std::uint64_t raw) {
        return chunk.raw_bytes == raw &&
               (chunk.codec == Q4Codec::kStored ? chunk.stored_bytes == raw : CompressionPays(raw, chunk.stored_bytes));
      });
}

bool IsZero(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

// One chunk where it lies in a partial file.
struct StoredChunk {
  std::size_t owner = 0;  // index into Journal::owners
  std::size_t shard = 0;
  Q4ChunkPlace place;
  std::uint64_t padding_begin = 0;  // all between it and the chunk is zero
  const Q4Chunk* chunk = nullptr;
};

// Whether a chunk lies where it should, with zeros before it (F3.3) and with its own digest. XXH3 is enough: this is
// about torn and lost writes, not about forgers, who could change the journal too.
bool IsIntact(const RandomAccessFile& file, const Sha256& file_id, const StoredChunk& stored) {
  const Q4Chunk& chunk = *stored.chunk;
  if (chunk.offset < stored.padding_begin || chunk.offset - stored.padding_begin >= kQ4SegmentAlignment) return false;
  std::vector<std::uint8_t> bytes(chunk.offset - stored.padding_begin);
  if (!file.ReadAt(stored.padding_begin, bytes).ok() || !IsZero(bytes)) return false;
  bytes.resize(chunk.stored_bytes);
  if (!file.ReadAt(chunk.offset, bytes).ok()) return false;
  return Xxh3(bytes, Q4ChunkSeed(file_id, stored.place)) == chunk.xxh3;
}

// The header is written before the first chunk and never again, and no chunk's digest covers it.
bool HasHeader(const RandomAccessFile& file, const Q4Index& index) {
  std::vector<std::uint8_t> bytes(kQ4HeaderBytes);
  if (!file.ReadAt(0, bytes).ok() || !std::equal(kQ4Magic.begin(), kQ4Magic.end(), bytes.begin())) return false;
  const absl::StatusOr<Q4Header> header = Q4Header::DecodeFrom(bytes, file.path());
  return header.ok() && header->file_id == index.file_id && header->shard == index.shard &&
         header->shard_count == index.shard_count;
}

}  // namespace

std::string JournalPath(const std::string& output) { return output + ".journal"; }

std::uint64_t OwnerCount(const PlannedShard& shard) { return shard.files.size() + shard.tensors.size(); }

absl::StatusOr<Sha256> RunIdOf(FileSystem& fs, const ConversionPlan& plan) {
  ByteWriter text;
  text.Text("q4 run 3 ");  // counts what a run's identity is made of
  text.Text(kQ4Version);
  // Options, names, sizes, headers and layout are in the file ids.
  for (const PlannedShard& shard : plan.shards) {
    text.Bytes(shard.index.file_id);
    for (const CompanionFile& file : shard.files) {
      // Found here also for one that was empty, of which no chunk is read later.
      Q4_ASSIGN_OR_RETURN(const auto content, OpenCompanion(fs, file));
      Q4_ASSIGN_OR_RETURN(const std::string digest, FileDigest(*content, "sha256", nullptr, kInterruptedRun));
      text.Text(digest);
    }
  }
  return Sha256Of(text.bytes());
}

Journal ReadJournal(FileSystem& fs, const std::string& path, const Sha256& run_id, const Checkpoint& checkpoint,
                    const ConversionPlan& plan, const ConvertOptions& options) {
  // A link could lead to a file that somebody else controls, or wants to keep: it is no journal of ours.
  const absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = fs.OpenForRead(path, SymbolicLinks::kNever);
  if (!file.ok() || (*file)->size() > kLongestJournal) return {};
  std::vector<std::uint8_t> bytes((*file)->size());
  if (!(*file)->ReadAt(0, bytes).ok()) return {};
  Journal journal = ParseJournal(bytes, run_id);

  // In the plan's order of writing: shard by shard. The journal's owners must be a beginning of that order, with no
  // gap.
  std::size_t good = 0;
  bool follows = true;
  for (std::size_t shard = 0; follows && shard < plan.shards.size(); ++shard) {
    for (std::uint64_t number = 0; follows && number < OwnerCount(plan.shards[shard]); ++number) {
      follows = good < journal.owners.size() &&
                FollowsPlan(journal.owners[good], OwnerAt(plan, shard, number), checkpoint, plan, options);
      good += follows;
    }
  }
  // What the sources must be compared with.
  if (journal.sources.size() != checkpoint.files().size()) return {};
  // A state that says more than a file has would make the digest of something else.
  const bool sources_exist =
      std::all_of(journal.digests.begin(), journal.digests.end(), [&](const SourceDigestState& state) {
        return state.file < checkpoint.files().size() &&
               state.sha256.bytes <= checkpoint.files()[state.file].file->size();
      });
  // A seal is about a whole output: every owner must be there, and a root for each shard.
  const bool seal_fits = !journal.sealed || (follows && journal.sealed->size() == plan.shards.size());
  if (good == 0 || !sources_exist || !seal_fits) return {};
  journal.CutAfter(good);
  return journal;
}

bool CheckStoredBytes(FileSystem& fs, const std::vector<std::string>& partials, const std::vector<bool>& published,
                      const ConversionPlan& plan, unsigned threads, Journal* journal) {
  std::vector<std::unique_ptr<RandomAccessFile>> files(partials.size());
  std::vector<StoredChunk> chunks;
  std::size_t good = 0;  // owners before the first whose place is not even there
  // Of what was accounted for in each file so far: the next chunk begins there, or after zeros.
  std::vector<std::uint64_t> ends(partials.size(), kQ4HeaderBytes);
  for (; good < journal->owners.size(); ++good) {
    const PlannedOwner planned = OwnerAt(plan, journal->owners[good].shard, journal->owners[good].number);
    const std::size_t shard = planned.shard;
    // Its seal was checked, which says more; and it has no partial file.
    if (published[shard]) continue;
    if (files[shard] == nullptr) {
      absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = fs.OpenForRead(partials[shard], SymbolicLinks::kNever);
      if (!file.ok() || !HasHeader(**file, plan.shards[shard].index)) break;
      files[shard] = *std::move(file);
    }
    Q4ChunkPlace place;
    place.section = planned.tensor != nullptr ? Q4ChunkPlace::Section::kTensor : Q4ChunkPlace::Section::kFile;
    place.owner = planned.index();
    for (const Q4Chunk& chunk : journal->owners[good].chunks) {
      chunks.push_back({good, shard, place, ends[shard], &chunk});
      ends[shard] = chunk.offset + chunk.stored_bytes;
      ++place.chunk;
    }
  }
  // Digests are taken on many threads but looked at in order, so that the first doubt is the same in each run. A status
  // only ends the loop; there is no error to report.
  std::size_t bad = good;
  (void)ParallelInOrder(
      chunks.size(), threads,
      [&](std::uint64_t i) {
        return IsIntact(*files[chunks[i].shard], plan.shards[chunks[i].shard].index.file_id, chunks[i]);
      },
      [&](std::uint64_t i, bool intact) -> absl::Status {
        if (intact) return absl::OkStatus();
        bad = chunks[i].owner;
        return absl::CancelledError();
      });
  if (bad == 0) return false;
  journal->CutAfter(bad);
  return true;
}

Q4Tensor SettledTensor(const Q4Tensor& planned, const SourceTensor& source, const JournalOwner& owner,
                       const ConvertOptions& options) {
  // As treat_quantized.cc does when it settles a tensor; the two must agree.
  if (owner.treatment == JournalOwner::Treatment::kKept) return PlanTensor(source, Decision{}, options);
  Q4Tensor tensor = planned;
  if (owner.treatment == JournalOwner::Treatment::kPlainScales) tensor.nested = false;
  if (owner.treatment == JournalOwner::Treatment::kLeftToAbsmax) tensor.encoder = Q4Encoder::kAbsmax;
  if (tensor.nested) tensor.nested_offset = owner.nested_offset;
  return tensor;
}

absl::Status Replay(const Journal& journal, std::size_t shard, const Checkpoint& checkpoint, const ConversionPlan& plan,
                    const ConvertOptions& options, Q4Writer* writer) {
  for (const JournalOwner& owner : journal.owners) {
    if (owner.shard != shard) continue;
    const PlannedOwner planned = OwnerAt(plan, shard, owner.number);
    if (planned.tensor == nullptr) {
      Q4_RETURN_IF_ERROR(writer->BeginFile(owner.number));
      for (const Q4Chunk& chunk : owner.chunks) Q4_RETURN_IF_ERROR(writer->AppendStored(chunk));
      continue;
    }
    // The same calls as Committer::Commit() makes, in the same order.
    const std::size_t tensor = planned.tensor->tensor;
    const Q4Tensor settled =
        SettledTensor(PlannedEntry(planned, plan), checkpoint.tensors()[planned.tensor->source], owner, options);
    Q4_RETURN_IF_ERROR(writer->ReviseTensor(tensor, settled));
    Q4_RETURN_IF_ERROR(writer->BeginTensor(tensor));
    // FollowsPlan() has counted them: there are as many as the parts ask for.
    auto chunk = owner.chunks.begin();
    for (const Q4Part part : Q4PartKindsOf(settled)) {
      Q4_RETURN_IF_ERROR(writer->BeginPart(part));
      for (std::uint64_t n = 0; n < ChunksOfPart(settled, part); ++n)
        Q4_RETURN_IF_ERROR(writer->AppendStored(*chunk++));
    }
    writer->SetTensorResult(tensor, settled.nested, settled.nested_offset, owner.stats ? &*owner.stats : nullptr);
  }
  writer->Continue();
  return absl::OkStatus();
}

std::size_t TensorsDone(const ConversionPlan& plan, const PipelineStart& start) {
  std::size_t done = 0;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    const std::uint64_t files = plan.shards[s].files.size();
    // Embedded files come first and are no tensors.
    done += start.owners_done[s] - std::min(start.owners_done[s], files);
  }
  return done;
}

bool IsWorthResuming(const absl::Status& status) {
  const int issue = IssueNumberOf(status);
  switch (ExitCodeOf(status)) {
    case ExitCode::kInterrupted:
      return true;
    case ExitCode::kIo:
      // A full disk, a network that is gone: worth another try. Not after a failed sync or close, when bytes that were
      // reported as written may be lost.
      return issue != kCannotSync.number && issue != kCannotClose.number;
    default:
      return IsDeviceFailure(status);
  }
}

}  // namespace q4
