// Converts a checkpoint to .q4: the public API behind q4convert.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/container.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/base/progress.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/plan.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

class SlabEngine;

// How the work is done; none of this can change a byte of the output.
struct RunOptions {
  unsigned threads = 0;  // 0: all cores
  std::uint64_t max_memory = std::uint64_t{2}
                             << 30;      // of the whole process, beside a fixed overhead (docs/architecture.md)
  const KernelTable* kernels = nullptr;  // nullptr: BestCpuKernels()
  SlabEngine* engine = nullptr;          // where slabs are quantized; nullptr: on the cores, with `kernels`
  bool force = false;                    // replace an existing output
  bool resume = true;                    // go on with what an interrupted run left; else begin from the start
  JournalPace pace;                      // how much an interruption may cost
  std::vector<Gate> gates;               // held against the whole model before it is published
  ProgressCallback progress;
  CancelFlag* cancel = nullptr;
};

struct ConvertedShard {
  std::string path;
  Q4Index index;  // final
  Q4Seal seal;
};

struct ConvertReport {
  std::vector<ConvertedShard> shards;
  std::string index_path;  // NAME.q4.index.json when sharded, else ""
  std::uint64_t source_bytes = 0, output_bytes = 0;
  std::uint64_t peak_budget_bytes = 0;  // most held of max_memory
  std::vector<std::string> notes;  // for people: what was resumed, and what was treated otherwise than planned, and why
  // Not empty if a gate was broken: then there is no output, and this says why (all of it: `gate_finding_count`).
  std::vector<VerifyFinding> gate_findings;
  std::uint64_t gate_finding_count = 0;
  double convert_seconds = 0,
         publish_seconds = 0;  // wall time until all was written, and then until it was on the disk
};

// Every name that a run of `plan` to `output` may write under: output or shards and their list, the partial file of
// each, the journal.
std::vector<std::string> OutputNames(const ConversionPlan& plan, const std::string& output);

// Refuses an output that is an input (under any of these names), exists (unless `force`), is no file or has no
// directory.
absl::Status CheckOutput(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                         const std::string& output, bool force);

// Runs the plan. The output appears by an atomic rename when everything is written and synced. It does not when a gate
// is broken, which is no error: ask the report.
//
// What a long run has written is noted in OUTPUT.journal. If it ends for a reason that lies outside of input and
// options (interrupted, killed, disk full, device failed), OUTPUT.partial and the journal stay, and the same call goes
// on with them, to the same bytes; after any other error nothing remains. Errors: exit code 1 output refused, 2 I/O, 3
// non-finite input, 7 cancelled.
absl::StatusOr<ConvertReport> RunConversion(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                            const ConvertOptions& options, const RunOptions& run,
                                            const std::string& output);

}  // namespace q4
