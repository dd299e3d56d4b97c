// Packs a .q4 container anew without quantizing: with another compression, in other shards, with other embedded files,
// or a subset of its tensors. Codes, scales, statistics and kept tensors stay as they are, bit for bit.
//
//   OpenContainer       the input (libconvert/model)
//   PlanRepack          what will be written (repack_plan.h)
//   CheckRepackOutput   whether it may be written there: cheap, to fail early
//   Repack              writes it
//
// There is no journal: what takes hours is quantizing, and a run that was interrupted begins again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/publish/input_files.h"
#include "formats/q4/reader.h"
#include "libconvert/base/progress.h"
#include "libconvert/output/container_files.h"
#include "libconvert/repack/repack_plan.h"

namespace q4 {

// How the work is done; none of this can change a byte of the output.
struct RepackRun {
  unsigned threads = 0;                                  // 0: what this process may use (machine.h)
  std::uint64_t max_memory = 0;                          // as RunOptions::max_memory
  std::function<std::uint64_t(std::uint64_t)> bound_of;  // as RunOptions::bound_of
  bool force = false;                                    // replace an existing output
  ProgressCallback progress;                             // called by one thread at a time
  CancelFlag* cancel = nullptr;                          // looked at before each chunk
};

struct RepackReport {
  std::vector<ConvertedShard> shards;
  std::string index_path;  // NAME.q4.index.json when there are several, else ""
  std::uint64_t output_bytes = 0;
  unsigned threads = 0;
  std::vector<std::string> limits;  // what decided about defaults, in lines for -v
};

// The files that are read: they must lie under none of the names that are written.
InputFiles RepackInputs(FileSystem& fs, const Q4Model& model, const RepackPlan& plan);

// Least max_memory of Repack(), on one thread.
std::uint64_t LeastRepackMemory(const Q4Model& model, const RepackPlan& plan);

// Refuses an output as CheckOutput() of a conversion does, with the same errors. With several shards, what an
// interrupted run of the same plan has left under their names may be replaced in any case.
absl::Status CheckRepackOutput(FileSystem& fs, const Q4Model& model, const RepackPlan& plan, const std::string& output,
                               bool force);

// Every chunk that is taken is read once, its digests and its values are checked, and it is written again, on several
// threads and within the memory bound. The output appears by atomic renames when all of it is written and synced; after
// any error, and when interrupted, nothing of it stays and an older output is as it was.
//
// Errors: those of CheckRepackOutput(); kRepackMemory (exit code 1); 2 I/O; 6 a damaged container; kFileChanged for an
// added file; kRepackInterrupted (7).
absl::StatusOr<RepackReport> Repack(FileSystem& fs, const Q4Model& model, const RepackPlan& plan, const RepackRun& run,
                                    const std::string& output);

}  // namespace q4
