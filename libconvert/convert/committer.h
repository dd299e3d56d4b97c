// The end of the pipeline: takes jobs in plan order, waits for each one's chunks, appends them to the shard's writer
// and notes in the journal what is complete. All on one thread, the caller of RunPipeline(), but for Push() and
// Close().
//
// This is where work that was done in any order gets its order back. Whatever the output depends on (the place of each
// chunk, the sums over a tensor's slabs, which of several errors is reported) is decided here and in plan order.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/writer.h"
#include "libconvert/base/progress.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/resume.h"
#include "libconvert/convert/stages.h"
#include "libconvert/convert/tensor_job.h"

namespace q4 {

// What there is to commit. A tensor has a settlement, parts and statistics, an embedded file only chunks. The committer
// shares a job with the steps that work on it, and drops it once it is committed.
using CommittedJob = std::variant<std::shared_ptr<FileJob>, std::shared_ptr<TensorJob>>;

// Used once: jobs are pushed by one thread while another is in CommitAll().
class Committer {
 public:
  // All must outlive the object. `writers` by shard; null where nothing is left to do. `start`: what an earlier run has
  // done, so that progress begins there. `journal` learns of each tensor and embedded file when its last chunk is
  // appended.
  Committer(Stages& stages, const PipelineStart& start, const std::vector<Q4Writer*>& writers, JournalWriter& journal);

  // From the admitting thread: jobs in plan order, before their chunks are made, and that there are no more. Neither
  // waits: what is in flight is bounded by memory, not by the number of jobs.
  void Push(CommittedJob job);
  void Close();

  // Commits all jobs until Close(). After the first error, which is returned, it stops the stages and drops what comes.
  // Returns after Close() only, so that no job is left whose chunks nobody takes. Errors: those of the steps in plan
  // order, of the writers and of the journal. Calls RunOptions::progress for each chunk of a tensor.
  absl::Status CommitAll();

  // Why tensors were treated otherwise than planned, for people: a sentence each. After CommitAll(), once.
  std::vector<std::string> TakeNotes() { return std::move(notes_); }

 private:
  std::optional<CommittedJob> Next();  // waits for it; nothing at the end
  // Wait for the job's chunks, one after the other, append them, and note the owner in the journal.
  absl::Status Commit(FileJob& job);
  absl::Status Commit(TensorJob& job);
  // `first_chunk`: index of the owner's first chunk among the writer's. `done`: complete but for place and chunks.
  absl::Status Journalize(const Job& job, std::size_t first_chunk, JournalOwner done);

  Stages& stages_;
  const PipelineStart& start_;
  const std::vector<Q4Writer*>& writers_;
  JournalWriter& journal_;
  // Of the committing thread alone.
  Progress progress_;
  std::vector<std::string> notes_;

  // Between the two threads.
  std::mutex mutex_;  // guards the next three
  std::condition_variable pushed_;
  std::deque<CommittedJob> jobs_;
  bool closed_ = false;
};

}  // namespace q4
