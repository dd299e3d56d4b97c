// What passes between the workers of a tensor (or embedded file) and the committing thread: chunks, finished in any
// order and taken out in plan order, and the tensor's treatment once it is settled.
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

// A finished chunk and the memory it holds until it is written.
struct FinishedChunk {
  Q4EncodedChunk chunk;
  std::shared_ptr<Reservation> memory;  // chunks cut from one slab share it
  TiledStats statistics;                // of a chunk of codes
  std::uint64_t source_bytes = 0;       // for progress
};

// Thread-safe. Chunks are numbered over all parts of their owner, as in Q4ChunkPlace::chunk.
class ChunkMailbox {
 public:
  void Put(std::uint64_t number, FinishedChunk chunk);
  // A chunk that cannot be made. Take() goes in order, so that of several errors the first in plan order is reported,
  // however threads were scheduled.
  void Fail(std::uint64_t number, absl::Status status);
  // No chunk will be made any more: Take() returns `status` for those not yet there.
  void FailAll(absl::Status status);
  // Drops chunks that are there and those that come: nobody will take them, and the admitting thread may be waiting for
  // the memory that they hold.
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

// A tensor's treatment, once it is settled: at once for those with one pass, else after the first pass, because its
// data can ask for another than was planned. Thread-safe.
class Settlement {
 public:
  // The first call counts.
  void Settle(absl::StatusOr<Q4Tensor> tensor);
  // Waits for it. An error: the tensor cannot be converted.
  const absl::StatusOr<Q4Tensor>& Wait();

 private:
  std::mutex mutex_;
  std::condition_variable settled_condition_;
  bool settled_ = false;
  absl::StatusOr<Q4Tensor> tensor_ = absl::UnknownError("unsettled");
};

}  // namespace q4
