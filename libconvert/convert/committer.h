// The end of the pipeline: takes jobs in plan order, waits for each one's chunks, appends them to the shard's writer
// and notes in the journal what is complete. All on one thread, but for Push() and Close().
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

// What there is to commit. A tensor has a settlement, parts and statistics, an embedded file only chunks.
using CommittedJob = std::variant<std::shared_ptr<FileJob>, std::shared_ptr<TensorJob>>;

class Committer {
 public:
  // All must outlive the object. `writers` by shard; null where nothing is left to do.
  Committer(Stages& stages, const PipelineStart& start, const std::vector<Q4Writer*>& writers, JournalWriter& journal);

  // From the admitting thread: jobs in plan order, before their chunks are made, and that there are no more.
  void Push(CommittedJob job);
  void Close();

  // Commits all jobs until Close(). After the first error, which is returned, it stops the stages and drops what comes.
  absl::Status CommitAll();

  // Why tensors were treated otherwise than planned, for people.
  std::vector<std::string> TakeNotes() { return std::move(notes_); }

 private:
  std::optional<CommittedJob> Next();  // waits for it; nothing at the end
  absl::Status Commit(FileJob& job);
  absl::Status Commit(TensorJob& job);
  absl::Status Journalize(const Job& job, std::size_t first_chunk, JournalOwner done);

  Stages& stages_;
  const PipelineStart& start_;
  const std::vector<Q4Writer*>& writers_;
  JournalWriter& journal_;
  Progress progress_;
  std::vector<std::string> notes_;

  std::mutex mutex_;  // guards the next three
  std::condition_variable pushed_;
  std::deque<CommittedJob> jobs_;
  bool closed_ = false;
};

}  // namespace q4
