// See pipeline.h for the stages. Order of this file: jobs, memory needs, worker steps, reader, commit, RunPipeline.
#include "libconvert/pipeline.h"

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

#include "formats/base/limits.h"
#include "libconvert/convert_issues.h"
#include "libconvert/slab.h"
#include "libconvert/source_hasher.h"
#include "libconvert/tensor_job.h"
#include "libconvert/thread_pool.h"

namespace q4 {
namespace {

// Scratch of one worker: decoded scales of a slab at the smallest block size, and statistics by tile.
constexpr std::uint64_t kWorkerScratchBytes = 2 * (kSlabElems / 32) * sizeof(float);

// Everything about one tensor or embedded file in flight.
struct Job {
  std::uint64_t order = 0;                    // position in the plan
  std::size_t shard = 0;
  const PlannedTensor* planned = nullptr;     // nullptr: an embedded file
  const TensorInfo* source = nullptr;
  std::size_t owner = 0;                      // index of the tensor or file in the shard's index
  std::uint64_t file_bytes = 0;               // of an embedded file
  Q4Tensor tensor;                            // the treatment; changes only before it is settled
  Settlement settlement;
  ChunkMailbox chunks;

  // Quantized tensors.
  std::shared_ptr<Reservation> scale_memory;
  std::vector<float> scales;                  // undecoded
  std::vector<std::uint8_t> scale_codes;      // nested
  std::vector<float> scales2;
  std::vector<std::shared_ptr<Buffer>> resident;       // source slabs kept between two passes, and their codes
  std::vector<std::vector<std::uint8_t>> codes;
  std::vector<std::shared_ptr<Reservation>> output_memory;  // one per slab, for the chunks made from it
  std::mutex mutex;                           // guards the counters and first_bad
  std::uint64_t slabs_left = 0;               // of the running pass
  std::uint64_t first_bad = kAllFinite;       // smallest index of a non-finite element
};
using JobPtr = std::shared_ptr<Job>;

std::uint64_t SlabCount(std::uint64_t elems, std::uint64_t slab_elems) {
  return elems / slab_elems + (elems % slab_elems != 0);
}

// Elements of a kept tensor that are read at once: a whole number of data chunks, before and after a conversion of the type.
std::uint64_t KeptSlabElems(DType dtype) {
  return IsQuantizable(dtype) ? kSlabElems : kQ4ChunkBytes / ItemSize(dtype);
}

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

// A slab of a tensor to be quantized: its source and its codes.
std::uint64_t SlabMemory(const TensorInfo& source, std::uint64_t elems, const Q4Compression& compression) {
  return BufferPool::CapacityFor(elems * ItemSize(source.dtype)) + ChunkMemory(PackedBytes(elems), compression);
}

std::uint64_t KeptSlabMemory(const TensorInfo& source, DType stored, const Q4Compression& compression) {
  const std::uint64_t elems = std::min(source.elems, KeptSlabElems(source.dtype));
  return BufferPool::CapacityFor(elems * ItemSize(source.dtype)) + ChunkMemory(elems * ItemSize(stored), compression);
}

// |y| from which an output of this type is infinite (Q5.12, Q8.9): the midpoint past the largest finite value.
double OverflowThreshold(DType dtype) {
  switch (dtype) {
    case DType::kF16: return 65520.0;
    case DType::kBF16: return 0x1.FFp+127;
    default: return std::numeric_limits<double>::infinity();
  }
}

class Pipeline {
 public:
  Pipeline(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
           const RunOptions& run, const std::vector<Q4Writer*>& writers)
      : fs_(fs),
        checkpoint_(checkpoint),
        plan_(plan),
        options_(options),
        run_(run),
        writers_(writers),
        kernels_(run.kernels != nullptr ? *run.kernels : BestCpuKernels()),
        threads_(run.threads != 0 ? run.threads : ThreadPool::DefaultThreads()),
        budget_(run.max_memory - std::min(run.max_memory, threads_ * kWorkerScratchBytes)),
        buffers_(&budget_),
        hasher_(checkpoint, options.source_digest),
        workers_(threads_) {}

  absl::StatusOr<PipelineResult> Run();

 private:
  // Reader thread.
  void ReadAll();
  bool Admit(const JobPtr& job);
  void AdmitFile(const JobPtr& job);
  void AdmitKept(const JobPtr& job);
  void AdmitQuantized(const JobPtr& job);
  void ReadCodes(const JobPtr& job, bool hash);
  void ReadKept(const JobPtr& job, bool hash);
  absl::StatusOr<std::shared_ptr<Buffer>> ReadSlab(const Job& job, std::uint64_t first, std::uint64_t elems, bool hash);
  absl::StatusOr<bool> Overflows(const Job& job);

  std::shared_ptr<Reservation> Reserve(std::uint64_t bytes);

  // Worker steps.
  void Submit(const JobPtr& job, std::function<void()> work);
  void Abort(const JobPtr& job, const absl::Status& status);
  void Encode(const JobPtr& job, Q4Part part, std::uint64_t chunk, std::vector<std::uint8_t> raw, FinishedChunk finished);
  void KeepSlab(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x);
  void QuantizeCodes(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x);
  void FirstPass(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x);
  void SettleScales(const JobPtr& job);
  void SecondPass(const JobPtr& job);
  void EncodeScales(const JobPtr& job);
  absl::Status NonFinite(const Job& job, std::uint64_t index) const;
  bool TwoPasses(const Q4Tensor& tensor) const { return tensor.nested || options_.keep_nonfinite; }
  bool IsResident(const Job& job) const;

  // Committing thread.
  absl::Status CommitAll();
  absl::Status Commit(Job& job);
  JobPtr NextJob();
  void Note(std::string note);

  FileSystem& fs_;
  const Checkpoint& checkpoint_;
  const ConversionPlan& plan_;
  const ConvertOptions& options_;
  const RunOptions& run_;
  const std::vector<Q4Writer*>& writers_;
  const KernelTable& kernels_;
  const unsigned threads_;
  MemoryBudget budget_;
  BufferPool buffers_;

  std::mutex mutex_;  // guards jobs_, all_admitted_, notes_
  std::condition_variable job_admitted_;
  std::deque<JobPtr> jobs_;
  bool all_admitted_ = false;
  std::vector<std::string> notes_;
  std::atomic<bool> stop_{false};  // an error was committed: admit nothing more
  Progress progress_;

  SourceHasher hasher_;   // after what it uses: its thread ends first
  ThreadPool workers_;
};

// ---- worker steps ------------------------------------------------------------------------------------------------------

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
void Pipeline::Submit(const JobPtr& job, std::function<void()> work) {
  workers_.Submit(job->order, [this, job, step = std::move(work)] {
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
  absl::StatusOr<Q4EncodedChunk> encoded = EncodeQ4Chunk(plan_.shards[job->shard].index.file_id, place, std::move(raw),
                                                         planes, options_.compression);
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

// The pass that ends in codes and statistics.
void Pipeline::QuantizeCodes(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x) {
  const Q4Tensor& tensor = job->tensor;
  const std::uint64_t first = slab * kSlabElems;
  const std::uint64_t n = SlabElems(tensor.elems, slab, kSlabElems);
  const std::uint64_t first_block = first / tensor.block_size, blocks = BlockCount(n, tensor.block_size);
  FinishedChunk finished;
  finished.source_bytes = x->size();
  finished.memory = std::move(job->output_memory[slab]);
  // Scales to take statistics with: the plain ones, or what a reader will decode.
  std::vector<float> decoded;
  if (tensor.nested) {
    decoded.resize(blocks);
    kernels_.dequantize_scales(job->scale_codes.data() + first_block, job->scales2.data() + first_block / kScaleGroup,
                               blocks, tensor.nested_offset, decoded.data());
  }
  float* const scales = job->scales.data() + first_block;
  const float* const used = tensor.nested ? decoded.data() : scales;
  std::vector<std::uint8_t> codes;
  std::uint64_t bad = kAllFinite;
  if (!job->codes.empty()) {
    codes = std::move(job->codes[slab]);
    TakeSlabStatistics(kernels_, tensor, x->data(), n, codes.data(), used, &finished.statistics);
  } else {
    codes.resize(PackedBytes(n));
    bad = QuantizeSlab(kernels_, tensor, x->data(), n, codes.data(), scales, used, &finished.statistics);
  }
  if (bad != kAllFinite) {
    job->chunks.Fail(slab, NonFinite(*job, first + bad));
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

// The first of two passes: all scales, and for a tensor that stays in memory its codes as well (they do not depend on how
// the scales will be stored).
void Pipeline::FirstPass(const JobPtr& job, std::uint64_t slab, const std::shared_ptr<Buffer>& x) {
  const Q4Tensor& tensor = job->tensor;
  const FloatType type = FloatTypeOf(tensor.dtype);
  const std::uint64_t first = slab * kSlabElems;
  const std::uint64_t n = SlabElems(tensor.elems, slab, kSlabElems);
  float* const scales = job->scales.data() + first / tensor.block_size;
  std::uint64_t bad = kAllFinite;
  if (job->resident.empty()) {
    bad = kernels_.absmax(type, x->data(), n, tensor.block_size, scales);
  } else {
    std::vector<std::uint8_t> codes(PackedBytes(n));
    bad = kernels_.quantize(type, CodeBookOf(tensor.scheme), x->data(), n, tensor.block_size, codes.data(), scales);
    job->codes[slab] = std::move(codes);
  }
  bool last = false;
  {
    std::lock_guard lock(job->mutex);
    if (bad != kAllFinite) job->first_bad = std::min(job->first_bad, first + bad);
    last = --job->slabs_left == 0;
  }
  if (last) SettleScales(job);
}

// Between the passes: what the whole tensor's scales decide.
void Pipeline::SettleScales(const JobPtr& job) {
  Q4Tensor& tensor = job->tensor;
  if (job->first_bad != kAllFinite) {
    if (!options_.keep_nonfinite) return job->settlement.Settle(NonFinite(*job, job->first_bad));
    Note(fmt::format("tensor '{}' is kept unquantized: element {} is NaN or infinite", tensor.name, job->first_bad));
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
      Note(fmt::format("tensor '{}' keeps fp32 scales: with double-quantized ones elements would overflow {}",
                       tensor.name, DTypeName(tensor.dtype)));
      tensor.nested = false;
      tensor.nested_offset = 0;
    }
  }
  if (IsResident(*job)) SecondPass(job);
  // Last, because the reader and the committing thread go on from here.
  job->settlement.Settle(tensor);
}

// Q5.12: whether any element decodes to infinity with the decoded scales. Only scales near the top of the type's range can.
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
    (void)QuantizeSlab(kernels_, tensor, x.data(), n, codes.data(), scales.data(), decoded.data(), &statistics);
    for (const SlabStats& tile : statistics.tiles) {
      if (tile.overflow != 0) return true;
    }
  }
  return false;
}

// The second pass over slabs that stayed in memory.
void Pipeline::SecondPass(const JobPtr& job) {
  std::vector<std::shared_ptr<Buffer>> slabs = std::move(job->resident);
  job->slabs_left = slabs.size();
  for (std::uint64_t slab = 0; slab < slabs.size(); ++slab) {
    Submit(job, [this, job, slab, x = std::move(slabs[slab])] { QuantizeCodes(job, slab, x); });
  }
}

// Cuts the finished scales into chunks. Their copies are paid for by the job's scale memory.
void Pipeline::EncodeScales(const JobPtr& job) {
  const auto encode = [&](Q4Part part, const void* data) {
    const auto* const bytes = static_cast<const std::uint8_t*>(data);
    const std::uint64_t total = Q4PartRawBytes(job->tensor, part), size = Q4ChunkRawSize(part);
    for (std::uint64_t at = 0; at < total; at += size) {
      Submit(job, [this, job, part, at, chunk = at / size, bytes, count = std::min(size, total - at)] {
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

// ---- reader ------------------------------------------------------------------------------------------------------------

// With --on-nonfinite keep a tensor may turn out to be kept, which takes more memory than its codes: then read again.
bool Pipeline::IsResident(const Job& job) const {
  const std::uint64_t elems = job.source->elems;
  const std::uint64_t slab = SlabMemory(*job.source, std::min(elems, kSlabElems), options_.compression);
  return !options_.keep_nonfinite && SlabCount(elems, kSlabElems) * slab <= budget_.limit() / 2;
}

absl::StatusOr<std::shared_ptr<Buffer>> Pipeline::ReadSlab(const Job& job, std::uint64_t first, std::uint64_t elems,
                                                           bool hash) {
  if (stop_.load() || (run_.cancel != nullptr && run_.cancel->load())) return Fail(kInterruptedRun, {}, {});
  const std::uint64_t item = ItemSize(job.source->dtype);
  std::shared_ptr<Buffer> buffer = buffers_.Get(elems * item);
  // The next slabs come to memory while this one is worked on.
  checkpoint_.files()[job.source->file].file->Prefetch(job.source->offset + (first + elems) * item, 4 * elems * item);
  Q4_RETURN_IF_ERROR(checkpoint_.Read(*job.source, first * item, {buffer->data(), buffer->size()}));
  if (hash) hasher_.Add(job.source->file, buffer);
  return buffer;
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

void Pipeline::ReadKept(const JobPtr& job, bool hash) {
  const std::uint64_t slab_elems = KeptSlabElems(job->source->dtype);
  const std::uint64_t slabs = SlabCount(job->source->elems, slab_elems);
  job->output_memory.resize(slabs);
  for (std::uint64_t slab = 0; slab < slabs; ++slab) {
    const std::uint64_t elems = SlabElems(job->source->elems, slab, slab_elems);
    absl::StatusOr<std::shared_ptr<Buffer>> x = ReadSlab(*job, slab * slab_elems, elems, hash);
    if (!x.ok()) {
      const std::uint64_t chunk = slab * slab_elems * ItemSize(job->tensor.dtype) / kQ4ChunkBytes;
      return job->chunks.Fail(chunk, x.status());
    }
    job->output_memory[slab] = Reserve(ChunkMemory(elems * ItemSize(job->tensor.dtype), options_.compression));
    Submit(job, [this, job, slab, buffer = *std::move(x)] { KeepSlab(job, slab, buffer); });
  }
}

void Pipeline::ReadCodes(const JobPtr& job, bool hash) {
  const std::uint64_t slabs = SlabCount(job->source->elems, kSlabElems);
  job->output_memory.resize(slabs);
  job->slabs_left = slabs;
  for (std::uint64_t slab = 0; slab < slabs; ++slab) {
    const std::uint64_t elems = SlabElems(job->source->elems, slab, kSlabElems);
    absl::StatusOr<std::shared_ptr<Buffer>> x = ReadSlab(*job, slab * kSlabElems, elems, hash);
    if (!x.ok()) return job->chunks.Fail(slab, x.status());
    job->output_memory[slab] = Reserve(ChunkMemory(PackedBytes(elems), options_.compression));
    Submit(job, [this, job, slab, buffer = *std::move(x)] { QuantizeCodes(job, slab, buffer); });
  }
}

void Pipeline::AdmitKept(const JobPtr& job) {
  job->settlement.Settle(job->tensor);
  ReadKept(job, /*hash=*/true);
}

void Pipeline::AdmitQuantized(const JobPtr& job) {
  job->scale_memory = Reserve(ScaleMemory(job->tensor, options_.compression));
  job->scales.resize(job->tensor.blocks());
  if (!TwoPasses(job->tensor)) {
    job->settlement.Settle(job->tensor);
    return ReadCodes(job, /*hash=*/true);
  }
  const bool resident = IsResident(*job);
  const std::uint64_t slabs = SlabCount(job->source->elems, kSlabElems);
  job->slabs_left = slabs;
  if (resident) {
    job->resident.resize(slabs);
    job->codes.resize(slabs);
    job->output_memory.resize(slabs);
  }
  for (std::uint64_t slab = 0; slab < slabs; ++slab) {
    const std::uint64_t elems = SlabElems(job->source->elems, slab, kSlabElems);
    absl::StatusOr<std::shared_ptr<Buffer>> x = ReadSlab(*job, slab * kSlabElems, elems, /*hash=*/true);
    if (!x.ok()) return job->settlement.Settle(x.status());
    if (resident) {
      job->resident[slab] = *x;
      job->output_memory[slab] = Reserve(ChunkMemory(PackedBytes(elems), options_.compression));
    }
    Submit(job, [this, job, slab, buffer = *std::move(x)] { FirstPass(job, slab, buffer); });
  }
  if (resident) return;  // SettleScales() starts the second pass
  const absl::StatusOr<Q4Tensor>& settled = job->settlement.Wait();
  if (!settled.ok()) return;
  settled->scheme == Q4Scheme::kRaw ? ReadKept(job, /*hash=*/false) : ReadCodes(job, /*hash=*/false);
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
    } else if (job->tensor.scheme == Q4Scheme::kRaw) {
      AdmitKept(job);
    } else {
      AdmitQuantized(job);
    }
  } catch (const std::bad_alloc&) {
    Abort(job, Fail(kOutOfMemory, checkpoint_.path(), {}));
  }
  return true;
}

void Pipeline::ReadAll() {
  std::uint64_t order = 0;
  bool going = true;
  for (std::size_t s = 0; s < plan_.shards.size() && going; ++s) {
    const PlannedShard& shard = plan_.shards[s];
    for (std::size_t f = 0; f < shard.files.size() && going; ++f) {
      const auto job = std::make_shared<Job>();
      job->order = order++;
      job->shard = s;
      job->owner = f;
      job->file_bytes = shard.index.files[f].raw_bytes;
      going = Admit(job);
    }
    for (std::size_t t = 0; t < shard.tensors.size() && going; ++t) {
      const auto job = std::make_shared<Job>();
      job->order = order++;
      job->shard = s;
      job->planned = &shard.tensors[t];
      job->source = &checkpoint_.tensors()[job->planned->source];
      job->owner = job->planned->tensor;
      job->tensor = shard.index.tensors[job->owner];
      going = Admit(job);
    }
  }
  {
    std::lock_guard lock(mutex_);
    all_admitted_ = true;
  }
  job_admitted_.notify_one();
}

// ---- committing thread -------------------------------------------------------------------------------------------------

void Pipeline::Note(std::string note) {
  std::lock_guard lock(mutex_);
  notes_.push_back(std::move(note));
}

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
  if (job.planned == nullptr) {
    Q4_RETURN_IF_ERROR(writer.BeginFile(job.owner));
    for (std::uint64_t at = 0; at < job.file_bytes; at += kQ4ChunkBytes) {
      Q4_ASSIGN_OR_RETURN(FinishedChunk finished, job.chunks.Take(at / kQ4ChunkBytes));
      Q4_RETURN_IF_ERROR(writer.Append(std::move(finished.chunk)));
    }
    return absl::OkStatus();
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
      finished.statistics.AddTo(chunk * kSlabElems, settled->block_size, &statistics);
      Q4_RETURN_IF_ERROR(writer.Append(std::move(finished.chunk)));
      progress_.done_bytes += finished.source_bytes;
      progress_.tensor = settled->name;
      if (run_.progress) run_.progress(progress_);
    }
  }
  ++progress_.done_tensors;
  writer.SetTensorResult(job.owner, settled->nested, settled->nested_offset,
                         settled->has_stats ? &statistics.Finish() : nullptr);
  return absl::OkStatus();
}

absl::Status Pipeline::CommitAll() {
  absl::Status status;
  progress_.total_bytes = plan_.source_bytes;
  progress_.total_tensors = checkpoint_.tensors().size();
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
  std::thread reader([this] { ReadAll(); });
  const absl::Status committed = CommitAll();
  reader.join();
  workers_.Wait();
  absl::StatusOr<std::vector<std::string>> digests = hasher_.Finish();
  Q4_RETURN_IF_ERROR(committed);
  Q4_RETURN_IF_ERROR(digests.status());
  Q4_RETURN_IF_ERROR(checkpoint_.CheckUnchanged());
  PipelineResult result;
  result.source_digests = *std::move(digests);
  result.notes = std::move(notes_);
  result.peak_budget_bytes = budget_.peak();
  std::sort(result.notes.begin(), result.notes.end());
  return result;
}

}  // namespace

std::uint64_t MinimumPipelineMemory(const Checkpoint& checkpoint, const ConversionPlan& plan, unsigned threads) {
  const Q4Compression worst{true, 0};
  std::uint64_t most = 3 * kQ4ChunkBytes;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& planned : shard.tensors) {
      const TensorInfo& source = checkpoint.tensors()[planned.source];
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      most = std::max(most, tensor.scheme == Q4Scheme::kRaw
                                ? KeptSlabMemory(source, tensor.dtype, worst)
                                : ScaleMemory(tensor, worst) +
                                      std::max(SlabMemory(source, std::min(source.elems, kSlabElems), worst),
                                               KeptSlabMemory(source, DType::kF32, worst)));
    }
  }
  return most + threads * kWorkerScratchBytes;
}

absl::StatusOr<PipelineResult> RunPipeline(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                           const ConvertOptions& options, const RunOptions& run,
                                           const std::vector<Q4Writer*>& writers) {
  return Pipeline(fs, checkpoint, plan, options, run, writers).Run();
}

}  // namespace q4
