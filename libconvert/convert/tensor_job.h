// One tensor (or embedded file) on its way through the pipeline: its chunks, filled by workers in any order and taken
// out in plan order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/writer.h"
#include "libconvert/base/budget.h"
#include "libconvert/model/stats.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// Where chunk `chunk` of a tensor's part lies among all chunks of the tensor.
std::uint64_t ChunkNumber(const Q4Tensor& tensor, Q4Part part, std::uint64_t chunk);
std::uint64_t ChunksOfPart(const Q4Tensor& tensor, Q4Part part);

// A finished chunk and the memory it holds until it is written.
struct FinishedChunk {
  Q4EncodedChunk chunk;
  std::shared_ptr<Reservation> memory;  // chunks cut from one slab share it
  SlabStatistics statistics;            // of a chunk of codes
  std::uint64_t source_bytes = 0;       // for progress
};

// Thread-safe hand-over between the workers of one job and the committing thread. Keyed by ChunkNumber.
class ChunkMailbox {
 public:
  void Put(std::uint64_t number, FinishedChunk chunk);
  // A chunk that cannot be made. Where several fail, the first in order is what Take() returns.
  void Fail(std::uint64_t number, absl::Status status);
  // No chunk will be made any more: Take() returns `status` for those not yet there.
  void FailAll(absl::Status status);
  // Drops chunks that are there and those that come: nobody will take them, and the memory they hold is needed.
  void Discard();
  // Waits for chunk `number`.
  absl::StatusOr<FinishedChunk> Take(std::uint64_t number);

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::uint64_t, FinishedChunk> chunks_;
  std::map<std::uint64_t, absl::Status> errors_;
  absl::Status failed_;
  bool discarding_ = false;
};

// A tensor's treatment, once it is settled: for most at once, for some only after their data was seen.
class Settlement {
 public:
  // The first call counts.
  void Settle(absl::StatusOr<Q4Tensor> tensor);
  // Waits for it.
  const absl::StatusOr<Q4Tensor>& Wait();

 private:
  std::mutex mutex_;
  std::condition_variable settled_condition_;
  bool settled_ = false;
  absl::StatusOr<Q4Tensor> tensor_ = absl::UnknownError("unsettled");
};

}  // namespace q4
