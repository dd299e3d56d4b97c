// Everything about one tensor or embedded file in flight: one job, of a type for each treatment. The admitting thread
// makes it, reader and worker steps hold it while they need it, the committing thread takes its chunks. It ends with
// the last of them. Internal to pipeline.cc, committer.cc and the treatments.
//
// A job is plain data. It has no lock for most of it, because each field has one writer at a time: the admitting thread
// before steps are submitted, a slab's step for what is the slab's own, and the last step of a pass for the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/calibration/calibration.h"
#include "formats/q4/chunk.h"
#include "formats/q4/container.h"
#include "formats/tensor/source_tensor.h"
#include "kernels/kernels.h"
#include "libconvert/base/budget.h"
#include "libconvert/convert/chunk_mailbox.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

// What the committer needs to know of any job.
struct Job {
  virtual ~Job() = default;
  // Nothing more comes of it: whoever waits for something of this job gets `status`. The first call counts.
  // Thread-safe.
  virtual void Abort(const absl::Status& status) { chunks.FailAll(status); }

  std::shared_ptr<Reservation> memory;  // of the job itself, steps and mailbox (kJobBytes)
  std::uint64_t order = 0;              // among all jobs of the conversion
  std::size_t shard = 0;                // index into ConversionPlan::shards
  std::uint64_t number = 0;             // in the shard's order of writing: embedded files, then tensors
  std::size_t owner = 0;                // index of the tensor or file in the shard's index
  ChunkMailbox chunks;
};

// An embedded file.
struct FileJob : Job {
  std::uint64_t bytes = 0;  // size of the file as planned
};

// A tensor. A job of this very type is a tensor that is kept: stored with its own elements, as its own type or another.
struct TensorJob : Job {
  void Abort(const absl::Status& status) override;

  const SourceTensor* source = nullptr;  // in the checkpoint, which owns it
  Q4Tensor tensor;                       // how it is treated; changes only until it is settled
  Settlement settlement;
  std::string note;  // for people: why it is treated otherwise than planned, or ""; set before it is settled
  // By slab (slab_cut.h), for the chunks that are made from it. A slab's step moves its own out and into the chunks.
  std::vector<std::shared_ptr<Reservation>> output_memory;
};

// A tensor that is to be quantized. (It may be kept in the end: treat_quantized.cc.)
struct QuantizedJob : TensorJob {
  void Abort(const absl::Status& status) override;

  // Codes do not depend on how scales are stored, statistics do: they are about what a reader will decode. Where that
  // depends on all scales of the tensor, there is a first pass for them, and between the passes its slabs either stay
  // where the engine works on them or are dropped and read once more.
  //
  // kOne: fp32 scales, unless --on-nonfinite keep asks for a look at all elements first. kTwoKeepingSlabs: the slabs
  // fit where they are worked on. kTwoReadings: they do not. kWholeTensor: codes are chosen of the tensor as a whole,
  // whose elements stay in host memory.
  enum class Passes { kOne, kTwoKeepingSlabs, kTwoReadings, kWholeTensor };
  Passes passes = Passes::kOne;

  WeightInput calibrated;                             // of an encoder that weighs errors: as planned,
  std::shared_ptr<const ColumnWeights> weights;       // and as the encoder takes it
  std::shared_ptr<Reservation> scale_memory;          // pays for these and the next three
  std::vector<float> scales;                          // of all blocks, as the encoder chose them
  std::vector<std::uint8_t> scale_codes;              // nested: a scale code for each block,
  std::vector<float> scales2;                         // and a group scale for each group
  std::vector<NestedLoss> losses;                     // and of an encoder that searches what each group loses
  std::vector<std::shared_ptr<SlabWork>> kept_slabs;  // by slab, between the passes; with kTwoKeepingSlabs

  Settlement scales_settled;  // with kWholeTensor, the treatment as scales decide it; then all elements and codes
  std::shared_ptr<Reservation> whole_memory;
  std::vector<std::uint8_t> elements, codes;

  std::mutex mutex;                      // guards the next two
  std::uint64_t slabs_left = 0;          // of the running pass
  std::uint64_t first_bad = kAllFinite;  // smallest index of a NaN or infinite element so far
};

// Where chunk `chunk` of a tensor's part lies among all chunks of the tensor: parts in the order of Q4PartKindsOf().
// This is the number under which the mailbox has it, and the writer digests it.
std::uint64_t ChunkNumber(const Q4Tensor& tensor, Q4Part part, std::uint64_t chunk);
// How many chunks a part has; 0 for one without bytes. REQUIRES, for both: the tensor has such a part.
std::uint64_t ChunksOfPart(const Q4Tensor& tensor, Q4Part part);

}  // namespace q4
