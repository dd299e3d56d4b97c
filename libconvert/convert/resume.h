// What an interrupted conversion left, and how much of it can be believed.
//
// Two runs are the same when the same version of q4 would write the same bytes: same plan, options and companions, and
// source files of the same sizes and headers, that hold what the earlier run has read of them (source_check.h). Then
// the journal says which tensors are complete. What it says is checked against the plan, and the bytes against their
// digests, before anything is built on them; from the first doubt on the work is done again. An unusable journal is
// never an error.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/writer.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/journal.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// Where a conversion begins: what an earlier run has done of it. Without one, as many zeros as there are shards.
struct PipelineStart {
  std::vector<std::uint64_t> owners_done;  // of each shard, in the order of writing: embedded files, then tensors
  std::vector<SourceDigestState> digests;  // as far as that run had come, which may be behind or ahead of owners_done
};

// How many tensors are done. Those are the first of the source, because they are planned in its order.
std::size_t TensorsDone(const ConversionPlan& plan, const PipelineStart& start);

// Whether a run that ended like this may end otherwise when it is run again, so that what it has written is worth
// keeping. After a failed sync nobody knows what is on the disk.
bool IsWorthResuming(const absl::Status& status);

// OUTPUT.journal, where OUTPUT is the path as asked for, with .q4.
std::string JournalPath(const std::string& output);

// What the two runs must have in common, as one digest: all but the payload of the source files. Reads the companion
// files; errors are those of reading them, kFileChanged among them.
absl::StatusOr<Sha256> RunIdOf(FileSystem& fs, const ConversionPlan& plan);

// How many things a shard's file holds: embedded files and tensors.
std::uint64_t OwnerCount(const PlannedShard& shard);

// Reads the journal at `path`. What it says of tensors and chunks follows the plan, and its source files exist; nothing
// is said yet of the bytes in the partial files. No owners where there is no journal, or none of this run.
Journal ReadJournal(FileSystem& fs, const std::string& path, const Sha256& run_id, const Checkpoint& checkpoint,
                    const ConversionPlan& plan, const ConvertOptions& options);

// Checks header, padding and XXH3 of the chunks that `journal` lists, all but those of `published` shards, in
// the partial files `partials` (one path per shard), and cuts the journal before the first owner that does not hold.
// False when nothing is left.
bool CheckStoredBytes(FileSystem& fs, const std::vector<std::string>& partials, const std::vector<bool>& published,
                      const ConversionPlan& plan, unsigned threads, Journal* journal);

// A tensor as `owner` says that it ended up. `planned`: its entry in the plan; `source`: the tensor in the checkpoint.
Q4Tensor SettledTensor(const Q4Tensor& planned, const SourceTensor& source, const JournalOwner& owner,
                       const ConvertOptions& options);

// Brings `writer`, which was just made by Q4Writer::Resume(), to the state that it had after the journal's tensors and
// files of shard `shard`: as if it had written them. Errors are internal ones: ReadJournal() has checked what matters.
absl::Status Replay(const Journal& journal, std::size_t shard, const Checkpoint& checkpoint, const ConversionPlan& plan,
                    const ConvertOptions& options, Q4Writer* writer);

}  // namespace q4
