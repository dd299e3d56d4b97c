// A queue of jobs between two threads, and the loop that commits them one after the other.
//
// For each job: wait until its treatment is settled, then take its chunks from the mailbox in the order of the file,
// part by part, and append them. Statistics of a slab come with its chunk of codes and are added in the same order, for
// sums in fp64 depend on it (numerics Q7.4). After an error the loop goes on without committing: whoever waits for
// memory must get it, or the threads behind could not end.
#include "libconvert/convert/committer.h"

#include <fmt/format.h>

#include <span>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/q4/parts.h"
#include "libconvert/model/stats.h"

namespace q4 {
namespace {

// What the journal must say of a tensor so that a rerun need not see its data again.
JournalOwner JournaledTensor(const Q4Tensor& planned, const Q4Tensor& settled, const Q4Tensor& result,
                             const std::string& note) {
  // The difference to the plan is all that has to be stored: a rerun has the same plan.
  JournalOwner done;
  if (settled.scheme != planned.scheme) {
    done.treatment = JournalOwner::Treatment::kKept;
  } else if (settled.nested != planned.nested) {
    done.treatment = JournalOwner::Treatment::kPlainScales;
  } else if (settled.encoder != planned.encoder) {
    done.treatment = JournalOwner::Treatment::kLeftToAbsmax;
  }
  done.nested_offset = result.nested_offset;
  if (result.has_stats) done.stats = *result.stats;
  done.note = note;
  return done;
}

}  // namespace

Committer::Committer(Stages& stages, const PipelineStart& start, const std::vector<Q4Writer*>& writers,
                     JournalWriter& journal)
    : stages_(stages), start_(start), writers_(writers), journal_(journal) {}

void Committer::Push(CommittedJob job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  pushed_.notify_one();
}

void Committer::Close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  pushed_.notify_one();
}

// Jobs that were pushed before Close() are still given out after it.
std::optional<CommittedJob> Committer::Next() {
  std::unique_lock lock(mutex_);
  pushed_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
  if (jobs_.empty()) return std::nullopt;
  std::optional<CommittedJob> job = std::move(jobs_.front());
  jobs_.pop_front();
  return job;
}

absl::Status Committer::Commit(FileJob& job) {
  Q4Writer& writer = *writers_[job.shard];
  const std::size_t first_chunk = writer.chunks().size();
  Q4_RETURN_IF_ERROR(writer.BeginFile(job.owner));
  // An empty file has no chunk to write, but somebody has looked whether it still is one.
  if (job.bytes == 0) Q4_RETURN_IF_ERROR(job.chunks.Take(0).status());
  for (std::uint64_t at = 0; at < job.bytes; at += kQ4ChunkBytes) {
    Q4_ASSIGN_OR_RETURN(FinishedChunk finished, job.chunks.Take(at / kQ4ChunkBytes));
    Q4_RETURN_IF_ERROR(writer.Append(finished.chunk));
  }
  return Journalize(job, first_chunk, {});
}

absl::Status Committer::Commit(TensorJob& job) {
  Q4Writer& writer = *writers_[job.shard];
  const std::size_t first_chunk = writer.chunks().size();
  const absl::StatusOr<Q4Tensor>& settled = job.settlement.Wait();
  Q4_RETURN_IF_ERROR(settled.status());
  // Before BeginTensor(), which is the last moment for it. Mostly nothing changes.
  Q4_RETURN_IF_ERROR(writer.ReviseTensor(job.owner, *settled));
  Q4_RETURN_IF_ERROR(writer.BeginTensor(job.owner));
  TensorStatsAccumulator statistics;
  std::uint64_t nans = 0;
  for (const Q4Part part : Q4PartKindsOf(*settled)) {
    Q4_RETURN_IF_ERROR(writer.BeginPart(part));
    for (std::uint64_t chunk = 0; chunk < ChunksOfPart(*settled, part); ++chunk) {
      // `finished` holds the chunk's memory until the end of this round, when the chunk is written.
      Q4_ASSIGN_OR_RETURN(FinishedChunk finished, job.chunks.Take(ChunkNumber(*settled, part, chunk)));
      // Without effect for chunks of other parts, whose statistics are empty. A chunk of codes is a slab.
      statistics.AddSlab(chunk * kSlabElems, settled->block_size, finished.statistics);
      Q4_RETURN_IF_ERROR(writer.Append(finished.chunk));
      if (part == Q4Part::kCodes) stages_.engine().Recycle(std::move(finished.chunk.stored));
      progress_.done_bytes += finished.source_bytes;
      nans += finished.nans;
      progress_.tensor = settled->name;
      if (const ProgressCallback& tell = stages_.conversion().run.progress) tell(progress_);
    }
  }
  // The note was written before the tensor was settled (Settlement).
  ++progress_.done_tensors;
  if (const ProgressCallback& tell = stages_.conversion().run.progress) tell(progress_);
  std::string note = job.note;
  if (note.empty() && nans != 0) {
    note =
        fmt::format("tensor '{}' is kept with {} of {} elements NaN", Printable(settled->name), nans, settled->elems);
  }
  if (!note.empty()) notes_.push_back(note);
  writer.SetTensorResult(job.owner, settled->nested, settled->nested_offset,
                         settled->has_stats ? &statistics.Finish() : nullptr);
  // The plan's entry, which ReviseTensor() did not touch: the writer has a copy of its own.
  const Q4Tensor& planned = stages_.conversion().plan.shards[job.shard].index.tensors[job.owner];
  return Journalize(job, first_chunk, JournaledTensor(planned, *settled, writer.index().tensors[job.owner], note));
}

absl::Status Committer::Journalize(const Job& job, std::size_t first_chunk, JournalOwner done) {
  done.shard = static_cast<std::uint32_t>(job.shard);
  done.number = job.number;
  // As the writer has placed them: their offsets are known only now.
  const std::span<const Q4Chunk> chunks = writers_[job.shard]->chunks().subspan(first_chunk);
  done.chunks.assign(chunks.begin(), chunks.end());
  return journal_.Add(std::move(done), [this] { return stages_.hasher().States(); });
}

absl::Status Committer::CommitAll() {
  const Conversion& conversion = stages_.conversion();
  absl::Status status;
  // Progress counts the whole model; what an earlier run has done is done.
  progress_.total_bytes = conversion.plan.source_bytes;
  progress_.total_tensors = conversion.plan.quantized_tensors + conversion.plan.kept_tensors;
  progress_.done_tensors = TensorsDone(conversion.plan, start_);
  for (std::size_t i = 0; i < progress_.done_tensors; ++i) {
    progress_.done_bytes += SourceBytes(conversion.checkpoint.tensors()[i]);
  }
  while (const std::optional<CommittedJob> next = Next()) {
    std::visit(
        [&](const auto& job) {
          if (status.ok()) status = Commit(*job);
          if (status.ok()) return;
          // Stop() comes first, so that no later job is admitted while this one is dropped.
          stages_.Stop();
          // The admitting thread may be waiting for memory that the chunks of this job hold.
          job->chunks.Discard();
        },
        *next);
  }
  return status;
}

}  // namespace q4
