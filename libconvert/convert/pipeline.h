// The streaming core of a conversion: read, quantize, statistics, compress, digest and write at the same time, in plan
// order, within a memory bound.
//
//   admitting thread ──▶ readers ──▶ workers (and through the engine, devices) ──▶ ordered commit (the calling thread)
//   ──▶ Q4Writer
//                           └──────▶ source hasher
//
// The admitting thread walks the plan, gives each tensor and embedded file its treatment (treat.h), and takes from
// the budget, in plan order, all the memory that a slab will ever need (memory_needs.h). Readers fill slabs and workers
// finish chunks in any order (stages.h); the calling thread appends them in plan order (committer.h). So thread count,
// devices and timing can change nothing in the output, and the memory in flight always drains.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/writer.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/journal.h"
#include "libconvert/convert/resume.h"
#include "libconvert/source/digest.h"

namespace q4 {

// What a conversion leaves beside what it wrote.
struct PipelineResult {
  std::vector<SourceDigestState> digest_states;  // complete, for the journal's seal; none of XXH3
  std::vector<std::string> source_digests;       // lower-case hexadecimal, one per source file
  std::vector<std::string> notes;                // why tensors were treated otherwise than planned, sorted
  std::uint64_t peak_budget_bytes = 0;           // as in ConvertReport
};

// Writes all payload of the plan but what `start` says is done through `writers` (one per shard, in order; null where
// nothing is left to do) and sets every tensor's result there. The caller finishes the writers. On error the writers'
// files are incomplete; if a rerun could do better, all that is complete is noted in `journal`. Several tensors may
// fail at once: the first one in plan order is reported. Afterwards the source files are checked to be what they were
// (kFileChanged). Throws std::system_error when the system gives no more threads. REQUIRES: the bound on memory is
// MinimumPipelineMemory() or more.
absl::StatusOr<PipelineResult> RunPipeline(const Conversion& conversion, const PipelineStart& start,
                                           const std::vector<Q4Writer*>& writers, JournalWriter& journal);

}  // namespace q4
