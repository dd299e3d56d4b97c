// The files of one conversion: partial files and journal on their way, the output at the end. Internal to
// libconvert/convert/convert.cc.
//
// Life: Find, Open, all payload through writers(), Finish, Publish; or Abandon, after an error at any point. An object
// that is destroyed before Publish() has succeeded removes partial files and journal, unless Abandon() kept them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/atomic_file.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/resume.h"

namespace q4 {

class ConversionOutput {
 public:
  // What `conversion` refers to must outlive the object.
  ConversionOutput(const Conversion& conversion, std::string output);
  ~ConversionOutput();
  ConversionOutput(const ConversionOutput&) = delete;
  ConversionOutput& operator=(const ConversionOutput&) = delete;

  // Looks for what an interrupted run of the same conversion left, and whether that run was publishing already. Then
  // refuses what CheckOutput() refuses, but for shards that the earlier run has published. Touches nothing.
  absl::Status Find();
  // Creates and locks the partial files. Where an earlier run left some, they are adopted up to the first tensor that
  // does not hold what the journal says.
  absl::Status Open(unsigned threads);

  // What is left to do.
  const PipelineStart& start() const { return start_; }
  std::vector<Q4Writer*> writers() const;  // by shard; null once published
  JournalWriter& journal() { return *journal_; }
  // What was found, for people.
  const std::vector<std::string>& notes() const { return notes_; }

  // Everything is appended: writes index and footer of each shard, with its document of `provenance`. Returns the
  // shards as they are now.
  absl::StatusOr<std::vector<ConvertedShard>> Finish(const std::vector<std::string>& provenance);
  // Makes the output appear. `digests`: those of the source files, complete.
  absl::Status Publish(const std::vector<ConvertedShard>& shards, const std::vector<SourceDigestState>& digests);

  // After an error: marks what another run can resume from as to be kept. Returns the error, to be reported.
  absl::Status Abandon(const absl::Status& status);

 private:
  struct Shard {
    std::string path;
    bool published = false;  // by an earlier run
    std::unique_ptr<AtomicFile> file;
    std::unique_ptr<Q4Writer> writer;
  };

  absl::Status Check() const;
  bool Adopt(unsigned threads);
  absl::Status StartOver();

  FileSystem& fs_;
  const Checkpoint& checkpoint_;
  const ConversionPlan& plan_;
  const ConvertOptions& options_;
  const RunOptions& run_;
  const std::string output_;  // its path
  std::vector<Shard> shards_;
  std::unique_ptr<JournalWriter> journal_;
  bool found_journal_ = false;
  bool kept_ = false;  // for another run
  Journal leftover_;
  PipelineStart start_;
  std::vector<std::string> notes_;
};

}  // namespace q4
