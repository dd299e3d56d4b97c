// What passes between the workers of a tensor (or embedded file) and the committing thread: chunks, finished in any
// order and taken out in plan order, and the tensor's treatment once it is settled. Each job (tensor_job.h) has one of
// each. Errors go the same way as results: a thread that cannot do its step tells it here and goes on with other work.
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
  // Released with the last chunk that shares it: those cut from one slab. nullptr where the job pays as a whole, as for
  // chunks of scales.
  std::shared_ptr<Reservation> memory;
  TiledStats statistics;  // of a chunk of codes; empty for all others
  // Bytes of the source that are done with this chunk, for progress. 0 for what is made beside codes.
  std::uint64_t source_bytes = 0;
  std::uint64_t nans = 0;  // elements of a kept tensor that are NaN
};

// Finished chunks of one owner. Thread-safe: workers put, one thread takes. Chunks are numbered over all parts of their
// owner, as in Q4ChunkPlace::chunk. For each number there is one Put() or one Fail() at most; after an error, numbers
// that follow may get neither.
class ChunkMailbox {
 public:
  // Hands a chunk over. Never waits: the memory was reserved before the chunk was made.
  void Put(std::uint64_t number, FinishedChunk chunk);
  // A chunk that cannot be made. Take() goes in order, so that of several errors the first in plan order is reported,
  // however threads were scheduled.
  void Fail(std::uint64_t number, absl::Status status);
  // No chunk will be made any more: Take() returns `status` for those not yet there.
  void FailAll(absl::Status status);
  // Drops chunks that are there and those that come: nobody will take them, and the admitting thread may be waiting for
  // the memory that they hold.
  void Discard();
  // Waits for chunk `number` and gives it away, with its memory. Errors: what Fail() or FailAll() were told.
  absl::StatusOr<FinishedChunk> Take(std::uint64_t number);

 private:
  std::mutex mutex_;  // guards all below but arrived_
  std::condition_variable arrived_;
  std::map<std::uint64_t, FinishedChunk> chunks_;
  std::map<std::uint64_t, absl::Status> errors_;
  absl::Status failed_;  // of FailAll(); OK until then
  bool discarding_ = false;
};

// A tensor's treatment, once it is settled: at once for those with one pass, else after the first pass, because its
// data can ask for another than was planned. Thread-safe.
class Settlement {
 public:
  // Tells the treatment, or why there is none. The first call counts: an error may come from several slabs at once.
  void Settle(absl::StatusOr<Q4Tensor> tensor);
  // Waits for it. An error: the tensor cannot be converted. Whoever returns from here also sees all that was written
  // before Settle(). The reference is valid as long as the object.
  const absl::StatusOr<Q4Tensor>& Wait();

 private:
  std::mutex mutex_;  // guards the last two
  std::condition_variable settled_condition_;
  bool settled_ = false;
  absl::StatusOr<Q4Tensor> tensor_ = absl::UnknownError("unsettled");
};

}  // namespace q4
