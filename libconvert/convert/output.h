// The files of one conversion: partial files and journal on their way, the output at the end. Internal to
// libconvert/convert/convert.cc.
//
// Life: Find, Open, all payload through writers(), Finish, Publish; or Abandon, after an error at any point. An object
// that is destroyed before Publish() has succeeded removes partial files and journal, unless Abandon() kept them.
//
// So at any moment there is either nothing, or partial files (with a journal as soon as something in them is durable),
// or the output. How much of an earlier run's files can be believed is decided in resume.h; how a file gets its name,
// in formats/publish/atomic_file.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/publish/atomic_file.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/resume.h"

namespace q4 {

// Not thread-safe: the thread that called RunConversion() uses it, and the pipeline its writers meanwhile.
class ConversionOutput {
 public:
  // What `conversion` refers to must outlive the object. `output`: the path NAME.q4. Touches nothing.
  ConversionOutput(const Conversion& conversion, std::string output);
  ~ConversionOutput();
  ConversionOutput(const ConversionOutput&) = delete;
  ConversionOutput& operator=(const ConversionOutput&) = delete;

  // Looks for what an interrupted run of the same conversion left, and whether that run was publishing already. Then
  // refuses what CheckOutput() refuses, with its errors, but for shards that the earlier run has published. Touches
  // nothing.
  absl::Status Find();
  // Creates and locks the partial files, and tries whether a file can get its name there (AtomicFile::TryPublishing()).
  // Without locks nothing is adopted and no journal written; warnings() says so. Where an earlier run left some, they
  // are adopted up to the first tensor that does not hold what the journal says; their chunks are read and digested on
  // `threads` threads. Without compression the whole size is reserved on the disk. Errors: kOutputInUse where another
  // process writes the same output, and others of the file system (exit code 2).
  absl::Status Open(unsigned threads);

  // RunIdOf() of the plan. From Find() on.
  const Sha256& run_id() const { return run_id_; }
  // What is left to do. From Open() on; all of it belongs to this object.
  const PipelineStart& start() const { return start_; }
  std::vector<Q4Writer*> writers() const;  // by shard; null once published
  JournalWriter& journal() { return *journal_; }
  // What was found, for people.
  const std::vector<std::string>& notes() const { return notes_; }
  // What the file system cannot do, and what that means.
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Everything is appended: writes index and footer of each shard, with its document of `provenance`, one per shard.
  // Returns the shards as they are now, in order. Nothing is synced yet. Errors: those of Q4Writer::Finish(), and of
  // Q4Reader::Open() for shards that an earlier run has published.
  absl::StatusOr<std::vector<ConvertedShard>> Finish(const std::vector<std::string>& provenance);
  // Makes the output appear: seals the journal, renames every shard, writes the shard list, removes the journal. Then,
  // with `force`, what an earlier output of the same name has besides (StaleFiles()).
  // `shards`: what Finish() has returned. `digests`: those of the source files, complete.
  absl::Status Publish(const std::vector<ConvertedShard>& shards, const std::vector<SourceDigestState>& digests);

  // After an error: marks what another run can resume from as to be kept. Once publishing has begun that is everything,
  // whatever the error: shards that have their names must not stay without the rest. Returns the error, to be reported.
  absl::Status Abandon(const absl::Status& status);

 private:
  struct Shard {
    std::string path;        // of the output
    bool published = false;  // by an earlier run; then the next two are null
    std::unique_ptr<AtomicFile> file;
    std::unique_ptr<Q4Writer> writer;  // writes to `file`
  };

  // Gives up resuming: the file system has no locks.
  void GoWithoutJournal();
  absl::StatusOr<bool> Adopt(unsigned threads);
  // Empties the partial files and forgets the earlier run.
  absl::Status StartOver();

  const Conversion& conversion_;
  FileSystem& fs_;
  const Checkpoint& checkpoint_;
  const ConversionPlan& plan_;
  const ConvertOptions& options_;
  const RunOptions& run_;
  const std::string output_;   // its path
  std::vector<Shard> shards_;  // as many as in the plan
  Sha256 run_id_{};
  std::unique_ptr<JournalWriter> journal_;
  bool found_journal_ = false;  // of whichever run
  bool sealed_ = false;         // the journal: publishing has begun, and what is left of it can be done by another run
  bool kept_ = false;           // for another run
  Journal leftover_;            // what is believed of it; empty when nothing is
  std::string why_again_;       // what an earlier run left is not used, for people; "" where nothing more is known
  PipelineStart start_;
  std::vector<std::string> notes_, warnings_;
};

}  // namespace q4
