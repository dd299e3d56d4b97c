// Readers and workers. A slab goes from a reader's queue to a worker's, and both queues are ordered by job, so that the
// earliest work of the plan is always done first and its memory comes back first.
//
// The budget is what --max-memory leaves after the fixed needs (memory_needs.h). Source buffers come out of it on the
// cores, and out of a ring of their own where page-locked memory must be spared.
#include "libconvert/convert/stages.h"

#include <algorithm>
#include <new>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/memory_needs.h"

namespace q4 {
Stages::Stages(const Conversion& conversion, const PipelineStart& start)
    : conversion_(conversion),
      kernels_(conversion.run.kernels != nullptr ? *conversion.run.kernels : BestCpuKernels()),
      cpu_engine_(MakeCpuSlabEngine(kernels_, conversion.options.effort)),
      engine_(conversion.run.engine != nullptr ? *conversion.run.engine : *cpu_engine_),
      threads_(ThreadsOrDefault(conversion.run.threads)),
      factors_(FeedbackUses(conversion.checkpoint, conversion.plan),
               FactorRoom(conversion.checkpoint, conversion.plan, conversion.options, threads_, &engine_,
                          conversion.run.max_memory)),
      ring_(engine_.RingBytes(conversion.run.max_memory)),
      budget_(conversion.run.max_memory -
              std::min(conversion.run.max_memory, FixedMemory(&engine_, threads_, conversion.run.max_memory) +
                                                      IndexMemory(conversion.plan) +
                                                      ReadMemory(conversion.plan, threads_) + factors_.room())),
      source_(conversion.checkpoint),
      buffers_(ring_.limit() != 0 ? &ring_ : &budget_, &engine_.buffer_memory()),
      hasher_(conversion.checkpoint, conversion.options.source_digest, threads_, start.digests,
              TensorsOf(conversion.plan).first + TensorsDone(conversion.plan, start), TensorsOf(conversion.plan).second,
              FilesOf(conversion.checkpoint, conversion.plan)),
      workers_(threads_),
      readers_(ReaderThreads(threads_)) {}

// Asked before each slab is read. What was read is finished, because it can still be written and resumed from.
bool Stages::Interrupted() const {
  return stopped() || (conversion_.run.cancel != nullptr && conversion_.run.cancel->load());
}

std::shared_ptr<Reservation> Stages::Reserve(std::uint64_t bytes) {
  auto reservation = std::make_shared<Reservation>(&budget_, bytes);
  // Idle source buffers give way: what is held and what is idle stay under the bound together.
  buffers_.Trim();
  return reservation;
}

void Stages::Submit(ThreadPool& pool, const std::shared_ptr<Job>& job, std::function<void()> step) {
  pool.Submit(job->order, [this, job, step = std::move(step)] {
    // Memory is the one thing that a step can run out of.
    try {
      step();
    } catch (const std::bad_alloc&) {
      job->Abort(Fail(kOutOfMemory, conversion_.checkpoint.path(), {}));
    }
  });
}

void Stages::Read(const std::shared_ptr<TensorJob>& job, const SourceTensor& source, std::uint64_t first,
                  std::uint64_t elems, Reading reading, Failed failed, SlabStep work) {
  // Waits here, on the admitting thread; from here on nothing of this slab waits for memory.
  std::shared_ptr<Buffer> buffer = buffers_.Get(elems * ItemSize(source.dtype));
  Submit(readers_, job,
         [this, job, &source, first, reading, buffer = std::move(buffer), failed = std::move(failed),
          work = std::move(work)]() mutable {
           // The buffer moves on: the step has it alone, but for the hasher, and gives it back as soon as it can.
           const absl::Status read = ReadInto(source, first, reading, buffer);
           if (!read.ok()) return failed(read);
           Work(job, [work = std::move(work), x = std::move(buffer)]() mutable { work(std::move(x)); });
         });
}

absl::Status Stages::ReadInto(const SourceTensor& source, std::uint64_t first, Reading reading,
                              const std::shared_ptr<Buffer>& buffer) {
  if (Interrupted()) return Fail(kInterruptedRun, {}, {});
  const std::uint64_t elems = buffer->size() / ItemSize(source.dtype);
  // The next slabs come to memory while this one is worked on.
  source_.Prefetch(source, first + elems, 4 * elems);
  // The hasher holds the buffer until its turn; the buffer is counted as long.
  if (reading == Reading::kFirst) return source_.ReadAndHash(source, first, buffer, &hasher_);
  return source_.Read(source, first, {buffer->data(), buffer->size()});
}

void Stages::Encode(Job& job, const Q4ChunkPlace& place, std::uint8_t planes, std::vector<std::uint8_t> raw,
                    FinishedChunk finished) {
  // The digest's seed is of the file and the place alone, so that chunks can be encoded in any order.
  absl::StatusOr<Q4EncodedChunk> encoded = EncodeQ4Chunk(conversion_.plan.shards[job.shard].index.file_id, place,
                                                         std::move(raw), planes, options().compression);
  if (!encoded.ok()) return job.chunks.Fail(place.chunk, encoded.status());
  finished.chunk = *std::move(encoded);
  job.chunks.Put(place.chunk, std::move(finished));
}

void Stages::Encode(TensorJob& job, Q4Part part, std::uint64_t chunk, std::vector<std::uint8_t> raw,
                    FinishedChunk finished) {
  const Q4ChunkPlace place{Q4ChunkPlace::Section::kTensor, job.owner, ChunkNumber(job.tensor, part, chunk)};
  Encode(job, place, Q4PlaneBytes(job.tensor, part), std::move(raw), std::move(finished));
}

void Stages::Wait() {
  // Readers submit to workers, never the reverse.
  readers_.Wait();
  workers_.Wait();
}

}  // namespace q4
