// Everything about one tensor or embedded file in flight: one job, of a type for each treatment. The admitting thread
// makes it, reader and worker steps hold it while they need it, the committing thread takes its chunks.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/chunk.h"
#include "formats/q4/container.h"
#include "formats/source/source_tensor.h"
#include "kernels/kernels.h"
#include "libconvert/base/budget.h"
#include "libconvert/convert/chunk_mailbox.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

struct Job {
  virtual ~Job() = default;
  // Nothing more comes of it: whoever waits for something of this job gets `status`. The first call counts.
  virtual void Abort(const absl::Status& status) { chunks.FailAll(status); }

  std::uint64_t order = 0;   // among all jobs of the conversion
  std::size_t shard = 0;     // index into ConversionPlan::shards
  std::uint64_t number = 0;  // in the shard's order of writing: embedded files, then tensors
  std::size_t owner = 0;     // index of the tensor or file in the shard's index
  ChunkMailbox chunks;
};

// An embedded file.
struct FileJob : Job {
  std::uint64_t bytes = 0;
};

// A tensor. As it is, one that is kept: stored with its own elements, as its own type or another.
struct TensorJob : Job {
  void Abort(const absl::Status& status) override;

  const SourceTensor* source = nullptr;  // in the checkpoint
  Q4Tensor tensor;                       // how it is treated; changes only until it is settled
  Settlement settlement;
  std::string note;  // for people: why it is treated otherwise than planned, or ""; set before it is settled
  std::vector<std::shared_ptr<Reservation>> output_memory;  // by slab, for the chunks that are made from it
};

// A tensor that is to be quantized. (It may be kept in the end: treat_quantized.cc.)
struct QuantizedJob : TensorJob {
  // Codes do not depend on how scales are stored, statistics do: they are about what a reader will decode. Where that
  // depends on all scales of the tensor, there is a first pass for them, and between the passes its slabs either stay
  // where the engine works on them or are dropped and read once more.
  enum class Passes { kOne, kTwoKeepingSlabs, kTwoReadings };
  Passes passes = Passes::kOne;

  std::shared_ptr<Reservation> scale_memory;          // pays for the next three
  std::vector<float> scales;                          // of all blocks, undecoded
  std::vector<std::uint8_t> scale_codes;              // nested: the scales as 8-bit codes,
  std::vector<float> scales2;                         // and the scales of those
  std::vector<std::shared_ptr<SlabWork>> kept_slabs;  // by slab; with kTwoKeepingSlabs

  std::mutex mutex;                      // guards the next two
  std::uint64_t slabs_left = 0;          // of the running pass
  std::uint64_t first_bad = kAllFinite;  // smallest index of a NaN or infinite element so far
};

// Where chunk `chunk` of a tensor's part lies among all chunks of the tensor.
std::uint64_t ChunkNumber(const Q4Tensor& tensor, Q4Part part, std::uint64_t chunk);
std::uint64_t ChunksOfPart(const Q4Tensor& tensor, Q4Part part);

}  // namespace q4
