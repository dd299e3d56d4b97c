// See pipeline.h for the stages. Order of this file: jobs, memory needs, worker steps, admission, commit, RunPipeline.
#include "libconvert/convert/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <new>
#include <thread>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/base/thread_pool.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/tensor_job.h"
#include "libconvert/engine/device.h"
#include "libconvert/engine/slab_engine.h"
#include "libconvert/scheme/slab.h"
#include "libconvert/source/file_hasher.h"

namespace q4 {
namespace {

// Scratch of one worker beside the engine's: decoded scales of a slab at the smallest block size.
constexpr std::uint64_t kWorkerScratchBytes = kSlabElems / 32 * sizeof(float);

// One thread keeps two or three cores supplied; more than eight do not read faster.
unsigned ReaderThreads(unsigned threads) { return std::clamp(threads / 2, 1u, 8u); }

// Everything about one tensor or embedded file in flight.
struct Job {
  std::uint64_t order = 0;  // position in the plan
  std::size_t shard = 0;
  const PlannedTensor* planned = nullptr;  // nullptr: an embedded file
  const TensorInfo* source = nullptr;
  std::uint64_t number = 0;      // in the shard's order of writing
  std::size_t owner = 0;         // index of the tensor or file in the shard's index
  std::uint64_t file_bytes = 0;  // of an embedded file
  Q4Tensor tensor;               // the treatment; changes only before it is settled
  Settlement settlement;
  ChunkMailbox chunks;

  // Quantized tensors.
  std::shared_ptr<Reservation> scale_memory;
  std::vector<float> scales;              // undecoded
  std::vector<std::uint8_t> scale_codes;  // nested
  std::vector<float> scales2;
  std::vector<std::shared_ptr<SlabWork>> resident;          // slabs kept between two passes
  std::vector<std::shared_ptr<Reservation>> output_memory;  // one per slab, for the chunks made from it
  std::mutex mutex;                                         // guards the counters and first_bad
  std::uint64_t slabs_left = 0;                             // of the running pass
  std::uint64_t first_bad = kAllFinite;                     // smallest index of a non-finite element
  std::string note;  // why it is treated otherwise than planned; set before it is settled
};
using JobPtr = std::shared_ptr<Job>;

std::uint64_t SlabCount(std::uint64_t elems, std::uint64_t slab_elems) {
  return elems / slab_elems + (elems % slab_elems != 0);
}

// Elements of a kept tensor that are read at once: a whole number of data chunks, before and after a conversion of the
// type.
std::uint64_t KeptSlabElems(DType dtype) { return IsQuantizable(dtype) ? kSlabElems : kQ4ChunkBytes / ItemSize(dtype); }

std::uint64_t SlabElems(std::uint64_t elems, std::uint64_t slab, std::uint64_t slab_elems) {
  return std::min(slab_elems, elems - slab * slab_elems);
}

// Memory a chunk of `raw` bytes needs from encoding to writing: itself, and when compressing its planes and the result.
std::uint64_t ChunkMemory(std::uint64_t raw, const Q4Compression& compression) {
  return compression.zstd ? 3 * raw + raw / 128 + 4096 : raw;
}

// The scales of a quantized tensor in every form they take, and the copies that are cut into chunks.
std::uint64_t ScaleMemory(const Q4Tensor& tensor, const Q4Compression& compression) {
  const std::uint64_t blocks = tensor.blocks();
  const std::uint64_t plain = blocks * sizeof(float);
  const std::uint64_t nested = tensor.nested ? blocks + GroupCount(blocks) * sizeof(float) : 0;
  return plain + ChunkMemory(std::max(plain, nested), compression) + nested;
}

// The source of a slab, and its codes.
std::uint64_t SourceMemory(const TensorInfo& source, std::uint64_t elems) {
  return BufferPool::CapacityFor(elems * ItemSize(source.dtype));
}
std::uint64_t CodeMemory(std::uint64_t elems, const Q4Compression& compression) {
  return ChunkMemory(PackedBytes(elems), compression);
}

std::uint64_t KeptSlabMemory(const TensorInfo& source, DType stored, const Q4Compression& compression) {
  const std::uint64_t elems = std::min(source.elems, KeptSlabElems(source.dtype));
  return BufferPool::CapacityFor(elems * ItemSize(source.dtype)) + ChunkMemory(elems * ItemSize(stored), compression);
}

// |y| from which an output of this type is infinite (Q5.12, Q8.9): the midpoint past the largest finite value.
double OverflowThreshold(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 65520.0;
    case DType::kBF16:
      return 0x1.FFp+127;
    default:
      return std::numeric_limits<double>::infinity();
  }
}

// Held from beginning to end.
std::uint64_t FixedMemory(const SlabEngine* engine, unsigned threads, std::uint64_t max_memory) {
  const std::uint64_t scratch = engine != nullptr ? engine->scratch_bytes_per_thread() : kCpuSlabScratchBytes;
  return threads * (kWorkerScratchBytes + scratch) + (engine != nullptr ? engine->RingBytes(max_memory) : 0);
}

// Tensors are planned in the order of the source: those that are done are its first.
std::size_t TensorsDone(const ConversionPlan& plan, const PipelineStart& start) {
  std::size_t done = 0;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    const std::uint64_t files = plan.shards[s].files.size();
    done += start.owners_done[s] - std::min(start.owners_done[s], files);
  }
  return done;
}

class Pipeline {
 public:
  Pipeline(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
           const RunOptions& run, const PipelineStart& start, const std::vector<Q4Writer*>& writers,
           JournalWriter* journal)
      : fs_(fs),
        checkpoint_(checkpoint),
        plan_(plan),
        options_(options),
        run_(run),
        start_(start),
        writers_(writers),
        journal_(*journal),
        kernels_(run.kernels != nullptr ? *run.kernels : BestCpuKernels()),
        cpu_engine_(MakeCpuSlabEngine(kernels_)),
        engine_(run.engine != nullptr ? *run.engine : *cpu_engine_),
        threads_(run.threads != 0 ? run.threads : ThreadPool::DefaultThreads()),
        ring_(engine_.RingBytes(run.max_memory)),
        budget_(run.max_memory - std::min(run.max_memory, FixedMemory(&engine_, threads_, run.max_memory))),
        buffers_(ring_.limit() != 0 ? &ring_ : &budget_, &engine_.buffer_memory()),
        hasher_(checkpoint, options.source_digest, threads_, start.digests, TensorsDone(plan, start)),
        workers_(threads_),
        readers_(ReaderThreads(threads_)) {}

  absl::StatusOr<PipelineResult> Run();

 private:
  // Admitting thread.
  void AdmitAll();
  bool Admit(const JobPtr& job);
  void AdmitFile(const JobPtr& job);
  void AdmitKept(const JobPtr& job, bool hash);
  void AdmitQuantized(const JobPtr& job);
  void AdmitFirstPass(const JobPtr& job, bool resident);
  void AdmitCodes(const JobPtr& job, bool hash);
  bool Stopped() const { return stop_.load() || (run_.cancel != nullptr && run_.cancel->load()); }

  std::shared_ptr<Reservation> Reserve(std::uint64_t bytes);

  // Reader threads.
  using Failed = std::function<void(const absl::Status&)>;
  using SlabStep = std::function<void(std::shared_ptr<Buffer>)>;
  void Read(const JobPtr& job, std::uint64_t first, std::uint64_t elems, bool hash, Failed failed, SlabStep work);
  absl::Status ReadInto(const Job& job, std::uint64_t first, bool hash, const std::shared_ptr<Buffer>& buffer);

  // Worker steps.
  void Submit(ThreadPool& pool, const JobPtr& job, std::function<void()> work);
  void Abort(const JobPtr& job, const absl::Status& status);
  absl::StatusOr<bool> Overflows(const Job& job);
  void Encode(const JobPtr& job, Q4Part part, std::uint64_t chunk, std::vector<std::uint8_t> raw,
              FinishedChunk finished);
  void KeepSlab(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x);
  void FirstPass(const JobPtr& job, std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x);
  void LastPass(const JobPtr& job, std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x);
  void SettleScales(const JobPtr& job);
  void SecondPass(const JobPtr& job);
  void EncodeScales(const JobPtr& job);
  absl::Status NonFinite(const Job& job, std::uint64_t index) const;
  bool TwoPasses(const Q4Tensor& tensor) const { return tensor.nested || options_.keep_nonfinite; }
  bool IsResident(const Job& job) const;

  // Committing thread.
  absl::Status CommitAll();
  absl::Status Commit(Job& job);
  absl::Status Journalize(const Job& job, std::size_t first_chunk, const Q4Tensor* settled);
  JobPtr NextJob();

  FileSystem& fs_;
  const Checkpoint& checkpoint_;
  const ConversionPlan& plan_;
  const ConvertOptions& options_;
  const RunOptions& run_;
  const PipelineStart& start_;
  const std::vector<Q4Writer*>& writers_;
  JournalWriter& journal_;
  const KernelTable& kernels_;  // for what is done on this machine's cores whatever the engine
  const std::unique_ptr<SlabEngine> cpu_engine_;
  SlabEngine& engine_;
  const unsigned threads_;
  MemoryBudget ring_;    // source buffers, where the engine wants few of them
  MemoryBudget budget_;  // all else in flight, and otherwise the source buffers too
  BufferPool buffers_;

  std::mutex mutex_;  // guards jobs_ and all_admitted_
  std::condition_variable job_admitted_;
  std::deque<JobPtr> jobs_;
  bool all_admitted_ = false;
  std::atomic<bool> stop_{false};  // an error was committed: admit nothing more
  std::vector<std::string> notes_;
  Progress progress_;

  // After what they use: the threads of the last end first.
  SourceHasher hasher_;
  ThreadPool workers_, readers_;
};

// ---- worker steps
// ------------------------------------------------------------------------------------------------------

absl::Status Pipeline::NonFinite(const Job& job, std::uint64_t index) const {
  return Fail(kNonFinite, checkpoint_.files()[job.source->file].file->path(),
              fmt::format("tensor '{}', element {}", job.source->name, index));
}

// Idle source buffers give way: what is held and what is idle stay under the bound together.
std::shared_ptr<Reservation> Pipeline::Reserve(std::uint64_t bytes) {
  auto reservation = std::make_shared<Reservation>(&budget_, bytes);
  buffers_.Trim();
  return reservation;
}

// Memory is the one thing a step can run out of.
void Pipeline::Submit(ThreadPool& pool, const JobPtr& job, std::function<void()> work) {
  pool.Submit(job->order, [this, job, step = std::move(work)] {
    try {
      step();
    } catch (const std::bad_alloc&) {
      Abort(job, Fail(kOutOfMemory, checkpoint_.path(), {}));
    }
  });
}

void Pipeline::Abort(const JobPtr& job, const absl::Status& status) {
  job->settlement.Settle(status);
  job->chunks.FailAll(status);
}

void Pipeline::Encode(const JobPtr& job, Q4Part part, std::uint64_t chunk, std::vector<std::uint8_t> raw,
                      FinishedChunk finished) {
  Q4ChunkPlace place;
  place.section = job->planned != nullptr ? Q4ChunkPlace::Section::kTensor : Q4ChunkPlace::Section::kFile;
  place.owner = job->owner;
  place.chunk = job->planned != nullptr ? ChunkNumber(job->tensor, part, chunk) : chunk;
  const std::uint8_t planes = job->planned != nullptr ? Q4PlaneBytes(job->tensor, part) : std::uint8_t{1};
  absl::StatusOr<Q4EncodedChunk> encoded =
      EncodeQ4Chunk(plan_.shards[job->shard].index.file_id, place, std::move(raw), planes, options_.compression);
  if (!encoded.ok()) return job->chunks.Fail(place.chunk, encoded.status());
  finished.chunk = *std::move(encoded);
  job->chunks.Put(place.chunk, std::move(finished));
}

// A slab of a tensor that stays unquantized: converted if --keep-dtype asks for it, cut into data chunks.
void Pipeline::KeepSlab(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x) {
  const DType from = job->source->dtype, to = job->tensor.dtype;
  const std::uint64_t elems = x->size() / ItemSize(from);
  const std::uint64_t out_bytes = elems * ItemSize(to);
  const std::uint64_t first_chunk = slab * KeptSlabElems(from) * ItemSize(to) / kQ4ChunkBytes;
  for (std::uint64_t at = 0; at < out_bytes; at += kQ4ChunkBytes) {
    const std::uint64_t bytes = std::min(kQ4ChunkBytes, out_bytes - at);
    std::vector<std::uint8_t> raw(bytes);
    const std::uint64_t first_elem = at / ItemSize(to);
    const std::uint8_t* const in = x->data() + first_elem * ItemSize(from);
    if (from == to) {
      std::memcpy(raw.data(), in, bytes);
    } else {
      const std::uint64_t infinite =
          kernels_.convert(FloatTypeOf(from), in, bytes / ItemSize(to), FloatTypeOf(to), raw.data());
      if (infinite != 0) {
        job->chunks.Fail(first_chunk + at / kQ4ChunkBytes,
                         Fail(kKeepOverflow, checkpoint_.files()[job->source->file].file->path(),
                              fmt::format("tensor '{}'", job->source->name), fmt::format("{} elements", infinite)));
        return;
      }
    }
    FinishedChunk finished;
    finished.source_bytes = bytes / ItemSize(to) * ItemSize(from);
    finished.memory = job->output_memory[slab];
    Encode(job, Q4Part::kData, first_chunk + at / kQ4ChunkBytes, std::move(raw), std::move(finished));
  }
  job->output_memory[slab].reset();
}

// The first of two passes: all scales, and for a tensor that stays in memory its codes as well (they do not depend on
// how the scales will be stored).
void Pipeline::FirstPass(const JobPtr& job, std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x) {
  const std::uint64_t first = slab * kSlabElems;
  float* const scales = job->scales.data() + first / job->tensor.block_size;
  const SlabWork::FirstBad bad =
      job->resident.empty() ? work.Absmax(std::move(x), scales) : work.QuantizeAndKeep(std::move(x), scales);
  if (!bad.ok()) return job->settlement.Settle(bad.status());
  bool last = false;
  {
    std::lock_guard lock(job->mutex);
    if (*bad != kAllFinite) job->first_bad = std::min(job->first_bad, first + *bad);
    last = --job->slabs_left == 0;
  }
  if (last) SettleScales(job);
}

// The only pass, or the second one, which ends in codes and statistics. `x` is null where the work has kept it.
void Pipeline::LastPass(const JobPtr& job, std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x) {
  const Q4Tensor& tensor = job->tensor;
  const std::uint64_t first = slab * kSlabElems;
  const std::uint64_t n = SlabElems(tensor.elems, slab, kSlabElems);
  const std::uint64_t first_block = first / tensor.block_size, blocks = BlockCount(n, tensor.block_size);
  FinishedChunk finished;
  finished.source_bytes = n * ItemSize(tensor.dtype);
  finished.memory = std::move(job->output_memory[slab]);
  float* const scales = job->scales.data() + first_block;
  // Statistics are about what a reader will decode: the scales themselves unless they are nested.
  std::vector<float> nested;
  if (tensor.nested) {
    nested.resize(blocks);
    kernels_.dequantize_scales(job->scale_codes.data() + first_block, job->scales2.data() + first_block / kScaleGroup,
                               blocks, tensor.nested_offset, nested.data());
  }
  const float* const decoded = tensor.nested ? nested.data() : scales;
  std::vector<std::uint8_t> codes;
  SlabWork::FirstBad bad = kAllFinite;
  if (x == nullptr) {
    const absl::Status status = work.Finish(decoded, &codes, &finished.statistics);
    if (!status.ok()) bad = status;
  } else {
    bad = work.Quantize(std::move(x), tensor.nested ? decoded : nullptr, &codes, scales, &finished.statistics);
  }
  if (!bad.ok()) {
    job->chunks.Fail(slab, bad.status());
  } else if (*bad != kAllFinite) {
    job->chunks.Fail(slab, NonFinite(*job, first + *bad));
  } else {
    Encode(job, Q4Part::kCodes, slab, std::move(codes), std::move(finished));
  }
  bool last = false;
  {
    std::lock_guard lock(job->mutex);
    last = --job->slabs_left == 0;
  }
  if (last) EncodeScales(job);
}

// Between the passes: what the whole tensor's scales decide.
void Pipeline::SettleScales(const JobPtr& job) {
  Q4Tensor& tensor = job->tensor;
  if (job->first_bad != kAllFinite) {
    if (!options_.keep_nonfinite) return job->settlement.Settle(NonFinite(*job, job->first_bad));
    job->note =
        fmt::format("tensor '{}' is kept unquantized: element {} is NaN or infinite", tensor.name, job->first_bad);
    tensor = PlanTensor(*job->source, Decision{}, options_);
  } else if (tensor.nested) {
    const std::uint64_t blocks = tensor.blocks();
    Sum256 sum;
    sum.Add(job->scales);
    tensor.nested_offset = NestedOffset(sum.total(), blocks);
    job->scale_codes.resize(blocks);
    job->scales2.resize(GroupCount(blocks));
    kernels_.quantize_scales(job->scales.data(), blocks, tensor.nested_offset, job->scale_codes.data(),
                             job->scales2.data());
    const absl::StatusOr<bool> overflows = Overflows(*job);
    if (!overflows.ok()) return job->settlement.Settle(overflows.status());
    if (*overflows) {
      job->note = fmt::format("tensor '{}' keeps fp32 scales: with double-quantized ones elements would overflow {}",
                              tensor.name, DTypeName(tensor.dtype));
      tensor.nested = false;
      tensor.nested_offset = 0;
    }
  }
  if (!job->resident.empty()) SecondPass(job);
  // Last, because the reader and the committing thread go on from here.
  job->settlement.Settle(tensor);
}

// Q5.12: whether any element decodes to infinity with the decoded scales. Only scales near the top of the type's range
// can.
absl::StatusOr<bool> Pipeline::Overflows(const Job& job) {
  const Q4Tensor& tensor = job.tensor;
  const double threshold = OverflowThreshold(tensor.dtype);
  std::vector<float> decoded(kSlabElems / tensor.block_size), scales(decoded.size());
  std::vector<std::uint8_t> codes;
  for (std::uint64_t slab = 0; slab < SlabCount(tensor.elems, kSlabElems); ++slab) {
    const std::uint64_t first = slab * kSlabElems, n = SlabElems(tensor.elems, slab, kSlabElems);
    const std::uint64_t first_block = first / tensor.block_size, blocks = BlockCount(n, tensor.block_size);
    kernels_.dequantize_scales(job.scale_codes.data() + first_block, job.scales2.data() + first_block / kScaleGroup,
                               blocks, tensor.nested_offset, decoded.data());
    const bool candidate = std::any_of(decoded.begin(), decoded.begin() + static_cast<std::ptrdiff_t>(blocks),
                                       [&](float s) { return !(std::fabs(static_cast<double>(s)) < threshold); });
    if (!candidate) continue;
    std::vector<std::uint8_t> x(n * ItemSize(tensor.dtype));
    Q4_RETURN_IF_ERROR(checkpoint_.Read(*job.source, first * ItemSize(tensor.dtype), x));
    codes.resize(PackedBytes(n));
    SlabStatistics statistics;
    (void)QuantizeSlab(kernels_, SlabShapeOf(tensor, n), x.data(), codes.data(), scales.data(), decoded.data(),
                       &statistics);
    for (const SlabStats& tile : statistics.tiles) {
      if (tile.overflow != 0) return true;
    }
  }
  return false;
}

// The second pass over slabs that stayed in memory.
void Pipeline::SecondPass(const JobPtr& job) {
  std::vector<std::shared_ptr<SlabWork>> slabs = std::move(job->resident);
  job->slabs_left = slabs.size();
  for (std::uint64_t slab = 0; slab < slabs.size(); ++slab) {
    Submit(workers_, job, [this, job, slab, work = std::move(slabs[slab])] { LastPass(job, slab, *work, nullptr); });
  }
}

// Cuts the finished scales into chunks. Their copies are paid for by the job's scale memory.
void Pipeline::EncodeScales(const JobPtr& job) {
  const auto encode = [&](Q4Part part, const void* data) {
    const auto* const bytes = static_cast<const std::uint8_t*>(data);
    const std::uint64_t total = Q4PartRawBytes(job->tensor, part), size = Q4ChunkRawSize(part);
    for (std::uint64_t at = 0; at < total; at += size) {
      Submit(workers_, job, [this, job, part, at, chunk = at / size, bytes, count = std::min(size, total - at)] {
        Encode(job, part, chunk, std::vector<std::uint8_t>(bytes + at, bytes + at + count), {});
      });
    }
  };
  if (job->tensor.nested) {
    encode(Q4Part::kScaleCodes, job->scale_codes.data());
    encode(Q4Part::kScales2, job->scales2.data());
  } else {
    encode(Q4Part::kScales, job->scales.data());
  }
}

// ---- reading
// -----------------------------------------------------------------------------------------------------------

// Takes a buffer for the slab, has it filled by a reader and then worked on by a worker.
void Pipeline::Read(const JobPtr& job, std::uint64_t first, std::uint64_t elems, bool hash, Failed failed,
                    SlabStep work) {
  std::shared_ptr<Buffer> buffer = buffers_.Get(elems * ItemSize(job->source->dtype));
  Submit(readers_, job,
         [this, job, first, hash, buffer = std::move(buffer), failed = std::move(failed),
          work = std::move(work)]() mutable {
           const absl::Status read = ReadInto(*job, first, hash, buffer);
           if (!read.ok()) return failed(read);
           Submit(workers_, job, [work = std::move(work), x = std::move(buffer)]() mutable { work(std::move(x)); });
         });
}

absl::Status Pipeline::ReadInto(const Job& job, std::uint64_t first, bool hash, const std::shared_ptr<Buffer>& buffer) {
  if (Stopped()) return Fail(kInterruptedRun, {}, {});
  const std::uint64_t begin = first * ItemSize(job.source->dtype);
  // The next slabs come to memory while this one is worked on.
  checkpoint_.files()[job.source->file].file->Prefetch(job.source->offset + begin + buffer->size(), 4 * buffer->size());
  Q4_RETURN_IF_ERROR(checkpoint_.Read(*job.source, begin, {buffer->data(), buffer->size()}));
  if (hash) hasher_.Add(job.source->file, job.source->offset + begin, buffer);
  return absl::OkStatus();
}

// ---- admission
// ---------------------------------------------------------------------------------------------------------

// With --on-nonfinite keep a tensor may turn out to be kept, which takes more memory than its codes: then read again.
bool Pipeline::IsResident(const Job& job) const {
  const std::uint64_t elems = job.source->elems, slab_elems = std::min(elems, kSlabElems);
  std::uint64_t slab = CodeMemory(slab_elems, options_.compression);
  if (engine_.keeps_on_host()) {
    slab += SourceMemory(*job.source, slab_elems);
  } else if (job.source->bytes > engine_.device_keep_bytes()) {
    return false;
  }
  return !options_.keep_nonfinite && SlabCount(elems, kSlabElems) * slab <= budget_.limit() / 2;
}

void Pipeline::AdmitFile(const JobPtr& job) {
  job->settlement.Settle(Q4Tensor{});
  const CompanionFile& companion = plan_.shards[job->shard].files[job->owner];
  const std::uint64_t chunks = job->file_bytes / kQ4ChunkBytes + (job->file_bytes % kQ4ChunkBytes != 0);
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = fs_.OpenForRead(companion.path);
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    if (!file.ok()) return job->chunks.Fail(chunk, file.status());
    const std::uint64_t at = chunk * kQ4ChunkBytes, bytes = std::min(kQ4ChunkBytes, job->file_bytes - at);
    FinishedChunk finished;
    finished.memory = Reserve(ChunkMemory(bytes, options_.compression));
    std::vector<std::uint8_t> raw(bytes);
    absl::Status read = (*file)->ReadAt(at, raw);
    if (read.ok() && (*file)->size() != job->file_bytes) read = (*file)->CheckUnchanged();
    if (!read.ok()) return job->chunks.Fail(chunk, read);
    Encode(job, Q4Part::kData, chunk, std::move(raw), std::move(finished));
  }
}

void Pipeline::AdmitKept(const JobPtr& job, bool hash) {
  const std::uint64_t slab_elems = KeptSlabElems(job->source->dtype);
  const std::uint64_t slabs = SlabCount(job->source->elems, slab_elems);
  job->output_memory.resize(slabs);
  for (std::uint64_t slab = 0; slab < slabs; ++slab) {
    const std::uint64_t elems = SlabElems(job->source->elems, slab, slab_elems);
    job->output_memory[slab] = Reserve(ChunkMemory(elems * ItemSize(job->tensor.dtype), options_.compression));
    const std::uint64_t first_chunk = slab * slab_elems * ItemSize(job->tensor.dtype) / kQ4ChunkBytes;
    Read(
        job, slab * slab_elems, elems, hash,
        [job, first_chunk](const absl::Status& status) { job->chunks.Fail(first_chunk, status); },
        [this, job, slab](const std::shared_ptr<Buffer>& x) { KeepSlab(job, slab, x); });
  }
}

// The only pass over a tensor, or its second reading.
void Pipeline::AdmitCodes(const JobPtr& job, bool hash) {
  const std::uint64_t slabs = SlabCount(job->source->elems, kSlabElems);
  job->output_memory.resize(slabs);
  job->slabs_left = slabs;
  for (std::uint64_t slab = 0; slab < slabs; ++slab) {
    const std::uint64_t elems = SlabElems(job->source->elems, slab, kSlabElems);
    absl::StatusOr<std::shared_ptr<SlabWork>> work = engine_.Begin(job->tensor, elems);
    if (!work.ok()) return job->chunks.Fail(slab, work.status());
    job->output_memory[slab] = Reserve(CodeMemory(elems, options_.compression));
    Read(
        job, slab * kSlabElems, elems, hash,
        [job, slab](const absl::Status& status) { job->chunks.Fail(slab, status); },
        [this, job, slab, work = *std::move(work)](std::shared_ptr<Buffer> x) {
          LastPass(job, slab, *work, std::move(x));
        });
  }
}

void Pipeline::AdmitFirstPass(const JobPtr& job, bool resident) {
  const std::uint64_t slabs = SlabCount(job->source->elems, kSlabElems);
  job->slabs_left = slabs;
  if (resident) {
    job->resident.resize(slabs);
    job->output_memory.resize(slabs);
  }
  for (std::uint64_t slab = 0; slab < slabs; ++slab) {
    const std::uint64_t elems = SlabElems(job->source->elems, slab, kSlabElems);
    absl::StatusOr<std::shared_ptr<SlabWork>> work = engine_.Begin(job->tensor, elems);
    if (!work.ok()) return job->settlement.Settle(work.status());
    if (resident) {
      job->resident[slab] = *work;
      job->output_memory[slab] = Reserve(CodeMemory(elems, options_.compression));
    }
    Read(
        job, slab * kSlabElems, elems, /*hash=*/true,
        [job](const absl::Status& status) { job->settlement.Settle(status); },
        [this, job, slab, work = *std::move(work)](std::shared_ptr<Buffer> x) {
          FirstPass(job, slab, *work, std::move(x));
        });
  }
}

void Pipeline::AdmitQuantized(const JobPtr& job) {
  job->scale_memory = Reserve(ScaleMemory(job->tensor, options_.compression));
  job->scales.resize(job->tensor.blocks());
  if (!TwoPasses(job->tensor)) {
    job->settlement.Settle(job->tensor);
    return AdmitCodes(job, /*hash=*/true);
  }
  const bool resident = IsResident(*job);
  AdmitFirstPass(job, resident);
  if (resident) return;  // SettleScales() starts the second pass
  const absl::StatusOr<Q4Tensor>& settled = job->settlement.Wait();
  if (!settled.ok()) return;
  !settled->quantized() ? AdmitKept(job, /*hash=*/false) : AdmitCodes(job, /*hash=*/false);
}

bool Pipeline::Admit(const JobPtr& job) {
  if (stop_.load()) return false;
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(job);
  }
  job_admitted_.notify_one();
  try {
    if (job->planned == nullptr) {
      AdmitFile(job);
    } else if (!job->tensor.quantized()) {
      job->settlement.Settle(job->tensor);
      AdmitKept(job, /*hash=*/true);
    } else {
      AdmitQuantized(job);
    }
  } catch (const std::bad_alloc&) {
    Abort(job, Fail(kOutOfMemory, checkpoint_.path(), {}));
  }
  return true;
}

void Pipeline::AdmitAll() {
  std::uint64_t order = 0;
  bool going = true;
  for (std::size_t s = 0; s < plan_.shards.size() && going; ++s) {
    const PlannedShard& shard = plan_.shards[s];
    for (std::uint64_t n = start_.owners_done[s]; n < shard.files.size() + shard.tensors.size() && going; ++n) {
      const auto job = std::make_shared<Job>();
      job->order = order++;
      job->shard = s;
      job->number = n;
      if (n < shard.files.size()) {
        job->owner = n;
        job->file_bytes = shard.index.files[n].raw_bytes;
      } else {
        job->planned = &shard.tensors[n - shard.files.size()];
        job->source = &checkpoint_.tensors()[job->planned->source];
        job->owner = job->planned->tensor;
        job->tensor = shard.index.tensors[job->owner];
      }
      going = Admit(job);
    }
  }
  {
    std::lock_guard lock(mutex_);
    all_admitted_ = true;
  }
  job_admitted_.notify_one();
}

// ---- committing thread
// -------------------------------------------------------------------------------------------------

JobPtr Pipeline::NextJob() {
  std::unique_lock lock(mutex_);
  job_admitted_.wait(lock, [this] { return all_admitted_ || !jobs_.empty(); });
  if (jobs_.empty()) return nullptr;
  JobPtr job = std::move(jobs_.front());
  jobs_.pop_front();
  return job;
}

absl::Status Pipeline::Commit(Job& job) {
  Q4Writer& writer = *writers_[job.shard];
  const std::size_t first_chunk = writer.chunks().size();
  if (job.planned == nullptr) {
    Q4_RETURN_IF_ERROR(writer.BeginFile(job.owner));
    for (std::uint64_t at = 0; at < job.file_bytes; at += kQ4ChunkBytes) {
      Q4_ASSIGN_OR_RETURN(FinishedChunk finished, job.chunks.Take(at / kQ4ChunkBytes));
      Q4_RETURN_IF_ERROR(writer.Append(finished.chunk));
    }
    return Journalize(job, first_chunk, nullptr);
  }
  const absl::StatusOr<Q4Tensor>& settled = job.settlement.Wait();
  Q4_RETURN_IF_ERROR(settled.status());
  Q4_RETURN_IF_ERROR(writer.ReviseTensor(job.owner, *settled));
  Q4_RETURN_IF_ERROR(writer.BeginTensor(job.owner));
  TensorStatsAccumulator statistics;
  for (const Q4Part part : Q4PartsOf(*settled)) {
    Q4_RETURN_IF_ERROR(writer.BeginPart(part));
    for (std::uint64_t chunk = 0; chunk < ChunksOfPart(*settled, part); ++chunk) {
      Q4_ASSIGN_OR_RETURN(FinishedChunk finished, job.chunks.Take(ChunkNumber(*settled, part, chunk)));
      statistics.AddSlab(chunk * kSlabElems, settled->block_size, finished.statistics);
      Q4_RETURN_IF_ERROR(writer.Append(finished.chunk));
      if (part == Q4Part::kCodes) engine_.Recycle(std::move(finished.chunk.stored));
      progress_.done_bytes += finished.source_bytes;
      progress_.tensor = settled->name;
      if (run_.progress) run_.progress(progress_);
    }
  }
  ++progress_.done_tensors;
  if (!job.note.empty()) notes_.push_back(job.note);
  writer.SetTensorResult(job.owner, settled->nested, settled->nested_offset,
                         settled->has_stats ? &statistics.Finish() : nullptr);
  return Journalize(job, first_chunk, &*settled);
}

absl::Status Pipeline::Journalize(const Job& job, std::size_t first_chunk, const Q4Tensor* settled) {
  const Q4Writer& writer = *writers_[job.shard];
  JournalOwner done;
  done.shard = static_cast<std::uint32_t>(job.shard);
  done.number = job.number;
  if (settled != nullptr) {
    const Q4Tensor& planned = plan_.shards[job.shard].index.tensors[job.owner];
    if (settled->scheme != planned.scheme) {
      done.treatment = JournalOwner::Treatment::kKept;
    } else if (settled->nested != planned.nested) {
      done.treatment = JournalOwner::Treatment::kPlainScales;
    }
    const Q4Tensor& result = writer.index().tensors[job.owner];
    done.nested_offset = result.nested_offset;
    if (result.has_stats) done.stats = *result.stats;
    done.note = job.note;
  }
  const std::span<const Q4Chunk> chunks = writer.chunks().subspan(first_chunk);
  done.chunks.assign(chunks.begin(), chunks.end());
  return journal_.Add(std::move(done), [this] { return hasher_.States(); });
}

absl::Status Pipeline::CommitAll() {
  absl::Status status;
  progress_.total_bytes = plan_.source_bytes;
  progress_.total_tensors = checkpoint_.tensors().size();
  progress_.done_tensors = TensorsDone(plan_, start_);
  for (std::size_t i = 0; i < progress_.done_tensors; ++i) progress_.done_bytes += checkpoint_.tensors()[i].bytes;
  while (JobPtr job = NextJob()) {
    if (status.ok()) status = Commit(*job);
    if (status.ok()) continue;
    // Jobs in flight are only let go now, so that the memory they hold reaches the reader.
    stop_.store(true);
    job->chunks.Discard();
  }
  return status;
}

absl::StatusOr<PipelineResult> Pipeline::Run() {
  std::thread admitting([this] { AdmitAll(); });
  const absl::Status committed = CommitAll();
  admitting.join();
  readers_.Wait();
  workers_.Wait();
  // The last that can be done for the next run; if that fails too, it begins a little earlier.
  if (IsWorthResuming(committed)) journal_.AddPending([this] { return hasher_.States(); }).IgnoreError();
  Q4_RETURN_IF_ERROR(committed);
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> digests, hasher_.Finish());
  Q4_RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
  PipelineResult result;
  result.digest_states = hasher_.States();
  result.source_digests = std::move(digests);
  result.notes = std::move(notes_);
  result.peak_budget_bytes = budget_.peak();
  std::sort(result.notes.begin(), result.notes.end());
  return result;
}

}  // namespace

std::uint64_t MinimumPipelineMemory(const Checkpoint& checkpoint, const ConversionPlan& plan,
                                    const ConvertOptions& options, unsigned threads, const SlabEngine* engine,
                                    std::uint64_t max_memory) {
  const Q4Compression& compression = options.compression;
  std::uint64_t most = 3 * kQ4ChunkBytes;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& planned : shard.tensors) {
      const TensorInfo& source = checkpoint.tensors()[planned.source];
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      const std::uint64_t slab = std::min(source.elems, kSlabElems);
      if (!tensor.quantized()) {
        most = std::max(most, KeptSlabMemory(source, tensor.dtype, compression));
        continue;
      }
      // With --on-nonfinite keep it may be kept after all.
      const std::uint64_t one_slab = std::max(SourceMemory(source, slab) + CodeMemory(slab, compression),
                                              KeptSlabMemory(source, DType::kF32, compression));
      most = std::max(most, ScaleMemory(tensor, compression) + one_slab);
    }
  }
  return most + FixedMemory(engine, threads, max_memory);
}

absl::StatusOr<PipelineResult> RunPipeline(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                           const ConvertOptions& options, const RunOptions& run,
                                           const PipelineStart& start, const std::vector<Q4Writer*>& writers,
                                           JournalWriter* journal) {
  return Pipeline(fs, checkpoint, plan, options, run, start, writers, journal).Run();
}

bool IsWorthResuming(const absl::Status& status) {
  const int issue = IssueNumberOf(status);
  switch (ExitCodeOf(status)) {
    case ExitCode::kInterrupted:
      return true;
    case ExitCode::kIo:
      return issue != kCannotSync.number && issue != kCannotClose.number;
    default:
      return IsDeviceFailure(status);
  }
}

}  // namespace q4
