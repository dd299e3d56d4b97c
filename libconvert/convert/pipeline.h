// The streaming core of a conversion: read, quantize, statistics, compress, digest and write at the same time, in plan
// order, within a memory bound.
//
//   admitting thread ──▶ readers ──▶ workers (and through the engine, devices) ──▶ ordered commit (the calling thread)
//   ──▶ Q4Writer
//                           └──────▶ source hasher
//
// The admitting thread walks the plan and takes from the budget, in its order, all the memory that a slab will ever
// need. Readers fill slabs and workers finish chunks in any order; the calling thread appends them in plan order. So
// thread count, devices and timing can change nothing in the output, and the memory in flight always drains.
//
// A quantized tensor with plain fp32 scales needs one pass. One with double-quantized scales needs two, because
// statistics use the decoded scales, which depend on the mean of all scales: first absmax over all slabs, then codes
// and statistics. Between the two the source stays where the engine works on it if it fits half of the memory there,
// else it is read again.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/writer.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/plan.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

// What an earlier run has done, and where to note what this one does.
struct PipelineStart {
  std::vector<std::uint64_t> owners_done;  // of each shard, in the order of writing: embedded files, then tensors
  std::vector<SourceDigestState> digests;  // of what was read for them, or less, or more
};

struct PipelineResult {
  std::vector<SourceDigestState> digest_states;
  std::vector<std::string> source_digests;  // lower-case hexadecimal, one per source file
  std::vector<std::string> notes;
  std::uint64_t peak_budget_bytes = 0;
};

// Writes all payload of `plan` but what `start` says is done through `writers` (one per shard, in order; null where
// nothing is left to do) and sets every tensor's result there. The caller finishes the writers. On error the writers'
// files are incomplete; if a rerun could do better, all that is complete is noted in `journal`.
absl::StatusOr<PipelineResult> RunPipeline(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                           const ConvertOptions& options, const RunOptions& run,
                                           const PipelineStart& start, const std::vector<Q4Writer*>& writers,
                                           JournalWriter* journal);

// Whether a run that ended like this may end otherwise when it is run again, so that what it has written is worth
// keeping. After a failed sync nobody knows what is on the disk.
bool IsWorthResuming(const absl::Status& status);

// The least RunOptions::max_memory with which RunPipeline can convert `plan` on `threads` threads: that of `max_memory`
// bytes, of which an engine may take its share, with nullptr as engine for this machine's cores.
std::uint64_t MinimumPipelineMemory(const Checkpoint& checkpoint, const ConversionPlan& plan,
                                    const ConvertOptions& options, unsigned threads, const SlabEngine* engine = nullptr,
                                    std::uint64_t max_memory = 0);

}  // namespace q4
