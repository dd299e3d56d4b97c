// What all treatments of a conversion share: the memory budget, the engine, reader and worker threads, the digests of
// the source. Knows nothing of treatments. Internal to libconvert/convert/pipeline.cc and the treatments.
//
// A slab's way: the admitting thread reserves its memory and calls Read(); a reader fills the buffer, hands it to the
// hasher of source files too, and has a worker call the treatment's step; the step calls Encode(), which puts the chunk
// into the job's mailbox. Steps never wait for memory or for each other, so that whatever was admitted gets finished.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/chunk.h"
#include "kernels/kernels.h"
#include "libconvert/base/budget.h"
#include "libconvert/base/thread_pool.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/resume.h"
#include "libconvert/convert/tensor_job.h"
#include "libconvert/encode/feedback_factors.h"
#include "libconvert/engine/slab_engine.h"
#include "libconvert/source/file_hasher.h"
#include "libconvert/source/source_reader.h"

namespace q4 {

// One object for each run of the pipeline. The functions are grouped by the threads that may call them.
class Stages {
 public:
  // Both must outlive the object. Starts all threads; throws std::system_error when the system gives no more.
  Stages(const Conversion& conversion, const PipelineStart& start);

  // What it was made with, and what it owns; for all threads, with the limits that each of them has.
  const Conversion& conversion() const { return conversion_; }
  const ConvertOptions& options() const { return conversion_.options; }
  const KernelTable& kernels() const { return kernels_; }
  SlabEngine& engine() { return engine_; }
  FileHasher& hasher() { return hasher_; }
  const SourceReader& source() const { return source_; }
  const MemoryBudget& budget() const { return budget_; }
  unsigned threads() const { return threads_; }
  bool Interrupted() const;

  // ---- for the admitting thread

  // Waits for `bytes` of the budget, which are released with the reservation. What a slab needs, all of it, is reserved
  // before the slab is read. How much that is: memory_needs.h.
  std::shared_ptr<Reservation> Reserve(std::uint64_t bytes);

  // What tensors with the same input have in common. Their room is no part of the budget.
  FeedbackFactors& factors() { return factors_; }

  // Each byte of the source is digested once: at its first reading. A second one reads it only for its elements.
  enum class Reading { kFirst, kAgain };
  // What becomes of a slab that was read, and of one that could not be. One of the two is called for each Read(), once,
  // unless the job is aborted.
  using Failed = std::function<void(const absl::Status&)>;
  using SlabStep = std::function<void(std::shared_ptr<Buffer>)>;
  // Waits for a buffer for elements first .. first + elems of `source`, the job's tensor or a part of it; then has a
  // reader fill it and a worker call `work` with it. Where it cannot be read, the reader calls `failed`: with
  // kInterruptedRun after Stop() or when the run is cancelled, else with the errors of SourceReader::Read(). Throws
  // std::bad_alloc.
  void Read(const std::shared_ptr<TensorJob>& job, const SourceTensor& source, std::uint64_t first, std::uint64_t elems,
            Reading reading, Failed failed, SlabStep work);

  // ---- for all threads

  // Has a worker take this step; earlier jobs first. A step that runs out of memory aborts its job (kOutOfMemory).
  void Work(const std::shared_ptr<Job>& job, std::function<void()> step) { Submit(workers_, job, std::move(step)); }

  // Compresses and digests one chunk on the calling thread, and puts it into the job's mailbox; an error too. `place`
  // says what the chunk belongs to and goes into its digest; `planes` is the number of byte planes (1, 2 or 4); `raw`
  // has the raw bytes; `finished` has all but the chunk.
  void Encode(Job& job, const Q4ChunkPlace& place, std::uint8_t planes, std::vector<std::uint8_t> raw,
              FinishedChunk finished);
  // The same for chunk `chunk` of a part of a tensor, counted from 0 in that part. REQUIRES: job.tensor has its
  // final treatment.
  void Encode(TensorJob& job, Q4Part part, std::uint64_t chunk, std::vector<std::uint8_t> raw, FinishedChunk finished);

  // ---- for the end

  // From now on nothing more is read. From any thread. Steps that are under way end as they would have.
  void Stop() { stopped_.store(true); }
  bool stopped() const { return stopped_.load(); }
  // Returns when all steps are taken. REQUIRES: the admitting thread has ended.
  void Wait();

 private:
  // What a reader does: fills `buffer` from element `first` on, as far as it is long.
  absl::Status ReadInto(const SourceTensor& source, std::uint64_t first, Reading reading,
                        const std::shared_ptr<Buffer>& buffer);
  // Has `pool` take the step, and catches what it throws.
  void Submit(ThreadPool& pool, const std::shared_ptr<Job>& job, std::function<void()> step);

  const Conversion& conversion_;
  const KernelTable& kernels_;  // for what is done on this machine's cores whatever the engine
  const std::unique_ptr<SlabEngine> cpu_engine_;
  SlabEngine& engine_;
  const unsigned threads_;
  FeedbackFactors factors_;
  MemoryBudget ring_;    // source buffers, where the engine wants few of them
  MemoryBudget budget_;  // all else in flight, and otherwise the source buffers too
  const SourceReader source_;
  BufferPool buffers_;  // takes from the ring if there is one, else from the budget
  std::atomic<bool> stopped_{false};

  // Threads come last. Members are destroyed from the last to the first, and these destructors wait for their threads,
  // which use everything above.
  FileHasher hasher_;
  ThreadPool workers_, readers_;
};

}  // namespace q4
