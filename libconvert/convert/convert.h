// Converts a checkpoint to .q4: the public API behind q4convert.
//
//   OpenCheckpoint      the input (formats/source/)
//   PlanConversion      what will be written, to the byte (plan.h)
//   CheckOutput         whether it may be written there: cheap, to fail early
//   RunConversion       writes it
//
// Input and ConvertOptions decide every byte of the output; RunOptions and the device decide none. Memory, threads and
// the course of a run: docs/architecture.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/base/progress.h"
#include "libconvert/convert/journal.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/output/container_files.h"
#include "libconvert/plan/plan.h"

namespace q4 {

class SlabEngine;

// How the work is done; none of this can change a byte of the output.
struct RunOptions {
  // Workers; readers, admission and hashing have threads of their own. 0: what this process may use (machine.h).
  unsigned threads = 0;
  // Bytes that the whole process may hold, beside a fixed overhead (docs/architecture.md). At least
  // MinimumPipelineMemory() of memory_needs.h. 0: 2 GiB, or less where the machine has less (machine.h).
  std::uint64_t max_memory = 0;
  // What the user has to give for so many bytes of `max_memory`, where a part of what is given holds something else,
  // such as what comes from a server; for messages. Empty: as many.
  std::function<std::uint64_t(std::uint64_t)> bound_of;
  // For what is done on the cores. nullptr: BestCpuKernels().
  const KernelTable* kernels = nullptr;
  // Where slabs are quantized; not owned. nullptr: on the cores, with `kernels`.
  SlabEngine* engine = nullptr;
  bool force = false;       // replace an existing output
  bool resume = true;       // go on with what an interrupted run left; else begin from the start
  JournalPace pace;         // how much an interruption may cost
  std::vector<Gate> gates;  // held against the whole model before it is published; empty: none
  // Called from the thread that called RunConversion(), for each chunk of a tensor that is written, and each tensor.
  ProgressCallback progress;
  // Called from that thread before anything is converted, with what is said of an interrupted run that is gone on with.
  // May be empty; ConvertReport::notes has it too.
  std::function<void(const std::string&)> tell;
  // Looked at before each slab is read.
  CancelFlag* cancel = nullptr;
};

// What came of a conversion. Text and JSON are made of it by libconvert/convert_report.
struct ConvertReport {
  std::vector<ConvertedShard> shards;  // in order, those that an earlier run has published included
  std::string index_path;              // NAME.q4.index.json when sharded, else ""
  // What all source tensors occupy in their files; sizes of all output files but the shard list.
  std::uint64_t source_bytes = 0, output_bytes = 0;
  // Most held at any time of what max_memory leaves after the fixed part (memory_needs.h).
  std::uint64_t peak_budget_bytes = 0;
  // How many workers there were, and what decided about defaults of RunOptions, in lines for -v.
  unsigned threads = 0;
  std::vector<std::string> limits;
  // For people: the notes of the plan, what was resumed, and what was treated otherwise than planned, and why.
  std::vector<std::string> notes;
  std::vector<std::string> warnings;  // those of the plan, and what the output's file system cannot do
  std::vector<LeftOutFile> left_out;  // those of the checkpoint
  std::string choice_text;            // those of the plan
  std::shared_ptr<const Json> choice;
  // Of each shard, in their order: the document of docs/format.md section 8.
  std::vector<std::string> provenance;
  std::vector<GateVerdict> gates;  // what every limit said
  // Not empty if a gate was broken: then there is no output, and this says why (all of it: `gate_finding_count`).
  std::vector<VerifyFinding> gate_findings;
  std::uint64_t gate_finding_count = 0;
  // Wall time until all was written, and then until it was on the disk under its name. Both 0 where a gate is broken.
  double convert_seconds = 0, publish_seconds = 0;
};

// Every name that a run of `plan` to `output` may write under: output or shards and their list, the partial file of
// each, the journal. Looks at no file. For callers that write other files too and must not use these names.
std::vector<std::string> OutputNames(const ConversionPlan& plan, const std::string& output);

// Refuses an output that is an input (under any of these names), exists (unless `force`, and it is a container), is no
// file or has no directory: kOutputName, kOutputDirectory, kOutputIsInput, kOutputNotAFile, kWouldReplace, kNotOurs, in
// this order of checks; and what FileSystem::Stat() says. RunConversion() checks again, for files change meanwhile.
absl::Status CheckOutput(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                         const std::string& output, bool force);

// What the plan shows of the gates before anything is read: gate_findings name the rules that can match nothing. Of the
// rest the report has the provenance, with placeholders for digests, and no shards. RunConversion() asks first, and
// ends with such a report; a dry run asks by itself.
ConvertReport CheckGates(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                         const std::vector<Gate>& gates, const std::string& output);

// Sets threads and bound of `run`: those that were asked for, else what the machine allows. Default threads give way
// where their scratch memory is all that does not fit. Returns what decided, for -v. kMemoryTooSmall, kLimitOfMachine.
absl::StatusOr<std::vector<std::string>> SetLimits(const Checkpoint& checkpoint, const ConversionPlan& plan,
                                                   const ConvertOptions& options, RunOptions* run);

// Runs the plan and returns when the output is on the disk. Takes the calling thread for writing, and starts others.
// All arguments must stay as they are until it returns. `output`: the path NAME.q4, from which shards, shard list,
// partial files and journal have their names. `options`: those that `plan` was made with.
//
// The output appears by an atomic rename when everything is written and synced. It does not when a gate is broken,
// which is no error: ask the report.
//
// What a long run has written is noted in OUTPUT.journal. If it ends for a reason that lies outside of input and
// options (interrupted, killed, disk full, device failed), OUTPUT.partial and the journal stay, and the same call goes
// on with them, to the same bytes; after any other error nothing remains.
//
// Errors: exit code 1 output refused (CheckOutput()) or kMemoryTooSmall, 2 I/O, 3 kNonFinite and kKeepOverflow, or a
// source file that changed, 4 a device that failed, 7 kInterruptedRun.
absl::StatusOr<ConvertReport> RunConversion(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                            const ConvertOptions& options, const RunOptions& run,
                                            const std::string& output);

}  // namespace q4
