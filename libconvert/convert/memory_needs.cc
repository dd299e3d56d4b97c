// Each function counts what one kind of work holds at its worst moment, in bytes. They are upper bounds, but close
// ones: a bound that is too large makes a conversion on a small machine impossible, one that is too small breaks the
// promise of --max-memory. Buffers of a few hundred bytes are left to the fixed overhead.
#include "libconvert/convert/memory_needs.h"

#include <algorithm>

#include "formats/base/checked_math.h"
#include "formats/bnb/taken_over.h"
#include "formats/q4/parts.h"
#include "libconvert/base/budget.h"
#include "libconvert/convert/scale_overflow.h"
#include "libconvert/convert/tensor_job.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/scheme/slab_cut.h"

namespace q4 {
namespace {

// What a worker holds beside its slab and the engine's scratch: the decoded scales of a slab, most at the smallest
// block size, or in another step the buffers of Overflows().
constexpr std::uint64_t kWorkerScratchBytes = kSlabElems / 32 * sizeof(float);
static_assert(kOverflowScratchBytes <= kWorkerScratchBytes);

// For each tensor its places in checkpoint, plan, writer and report, with its statistics; a name stands in four of
// them. For each chunk its record in the writer and, for a while, in the journal.
constexpr std::uint64_t kIndexTensorBytes = 1536, kIndexChunkBytes = 160;

// However small the tensors are: three chunks, so that they can be read, compressed and written at the same time.
constexpr std::uint64_t kLeastBudget = 3 * kQ4ChunkBytes;

// What a tensor that is to be quantized takes with one slab in flight: its scales all the time, and the slab.
std::uint64_t QuantizedNeed(const SourceTensor& source, const Q4Tensor& tensor, const WeightInput& calibrated,
                            unsigned threads, const SlabEngine* engine, const Q4Compression& compression) {
  const std::uint64_t coded = CutToQuantize(source.elems).largest();
  const std::uint64_t kept = CutToKeep(source).largest();
  const std::uint64_t slab = SourceMemory(source, coded) + CodeMemory(tensor, coded, compression);
  // With --on-nonfinite keep the tensor may be kept after all, beside its scales and as any type.
  const std::uint64_t kept_slab = SourceMemory(source, kept) + KeptMemory(kept, DType::kF32, compression);
  const std::uint64_t slabs = ScaleMemory(tensor, compression) + std::max(slab, kept_slab);
  if (!CodesNeedWholeTensor(tensor.encoder)) return slabs;
  return slabs + WholeTensorMemory(source, tensor) +
         (engine != nullptr ? engine->WholeMemory(calibrated, threads) : FeedbackMemory(calibrated, threads));
}

// The same for a tensor that is kept: one slab, as it is read and as it is stored.
std::uint64_t KeptNeed(const SourceTensor& source, DType stored, const Q4Compression& compression) {
  const std::uint64_t elems = CutToKeep(source).largest();
  return SourceMemory(source, elems) + KeptMemory(elems, stored, compression);
}

// The same for one that is taken over: its largest chunk, as it is read and as it is stored.
std::uint64_t CopiedNeed(const SourceTensor& source, const Q4Tensor& tensor, const Q4Compression& compression) {
  std::uint64_t most = 0;
  for (std::size_t p = 0; p < source.bnb->parts.size(); ++p) {
    const SourceTensor& part = source.bnb->parts[p];
    const std::uint64_t bytes = std::min(Q4ChunkRawSize(Q4PartKindsOf(tensor)[p]), part.bytes);
    most = std::max(most, SourceMemory(part, bytes / ItemSize(part.dtype)) + ChunkMemory(bytes, compression));
  }
  return most;
}

}  // namespace

std::uint64_t ChunkMemory(std::uint64_t raw, const Q4Compression& compression) {
  // The last two terms: a frame can be longer than what it holds, by zstd's own bound a 256th and a little.
  return compression.zstd ? 3 * raw + raw / 128 + 4096 : raw;
}

std::uint64_t SourceMemory(const SourceTensor& source, std::uint64_t elems) {
  return BufferPool::CapacityFor(elems * ItemSize(source.dtype));
}

std::uint64_t CodeMemory(const Q4Tensor& tensor, std::uint64_t elems, const Q4Compression& compression) {
  // By tile as on the cores; a GPU makes one tile of a slab.
  const std::uint64_t tiles = CeilDiv(elems, TileElems(tensor.block_size));
  const std::uint64_t groups = GroupCount(BlockCount(elems, tensor.block_size));
  return ChunkMemory(PackedBytes(elems), compression) + tiles * sizeof(SlabStats) + groups * sizeof(GroupSums);
}

std::uint64_t KeptMemory(std::uint64_t elems, DType stored, const Q4Compression& compression) {
  return ChunkMemory(elems * ItemSize(stored), compression);
}

std::uint64_t ScaleMemory(const Q4Tensor& tensor, const Q4Compression& compression) {
  const std::uint64_t blocks = tensor.blocks();
  const std::uint64_t plain = blocks * sizeof(float);
  const std::uint64_t nested = tensor.nested ? blocks + GroupCount(blocks) * sizeof(float) : 0;
  const bool searches = tensor.nested && EncoderOf(tensor.encoder).searching() != nullptr;
  // What each group loses; and where it is left to absmax, the scales of both stand side by side for a while.
  const std::uint64_t losses = searches ? GroupCount(blocks) * sizeof(NestedLoss) + nested : 0;
  // A tensor with nested scales may end up with fp32 scales: the copies of either must fit.
  const std::uint64_t weights = FindQ4Encoder(tensor.encoder)->calibrated ? ColumnWeightsMemory(tensor.shape) : 0;
  return plain + ChunkMemory(std::max(plain, nested), compression) + nested + losses + weights;
}

std::uint64_t WholeTensorMemory(const SourceTensor& source, const Q4Tensor& tensor) {
  return source.bytes + PackedBytes(tensor.elems) + tensor.blocks() * sizeof(float);
}

bool SlabsFitBetweenPasses(const SourceTensor& source, const Q4Tensor& tensor, const ConvertOptions& options,
                           const SlabEngine& engine, std::uint64_t budget_limit) {
  if (options.keep_nonfinite) return false;
  // Codes wait in host memory in any case, to be written; the elements wait where the engine has them.
  const SlabCut cut = CutToQuantize(source.elems);
  std::uint64_t slab = CodeMemory(tensor, cut.largest(), options.compression);
  if (engine.keeps_on_host()) {
    slab += SourceMemory(source, cut.largest());
  } else if (source.bytes > engine.device_keep_bytes()) {
    return false;
  }
  return cut.slabs() * slab <= budget_limit / 2;
}

std::uint64_t FixedMemory(const SlabEngine* engine, unsigned threads, std::uint64_t max_memory) {
  const std::uint64_t scratch = engine != nullptr ? engine->scratch_bytes_per_thread() : kCpuSlabScratchBytes;
  return threads * (kWorkerScratchBytes + scratch) + (engine != nullptr ? engine->RingBytes(max_memory) : 0);
}

unsigned ReaderThreads(unsigned threads) { return std::clamp(threads / 2, 1u, 8u); }

std::uint64_t ReadMemory(const ConversionPlan& plan, unsigned threads) {
  return ReaderThreads(threads) * plan.read_bytes;
}

std::uint64_t IndexMemory(const ConversionPlan& plan) {
  std::uint64_t bytes = 0;
  for (const PlannedShard& shard : plan.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      bytes += kIndexTensorBytes + 4 * tensor.name.size();
      for (const Q4Part part : Q4PartKindsOf(tensor)) bytes += kIndexChunkBytes * ChunksOfPart(tensor, part);
    }
  }
  return IndexBeyondAllowance(bytes);
}

std::uint64_t MinimumPipelineMemory(const Checkpoint& checkpoint, const ConversionPlan& plan,
                                    const ConvertOptions& options, unsigned threads, const SlabEngine* engine,
                                    std::uint64_t max_memory) {
  // The greatest need counts, not the sum: whatever does not fit beside others waits until they are written.
  const Q4Compression& compression = options.compression;
  std::uint64_t most = kLeastBudget;
  for (const PlannedShard& shard : plan.shards) {
    for (const CompanionFile& file : shard.files) {
      most = std::max(most, ChunkMemory(std::min(file.size, kQ4ChunkBytes), compression));
    }
    for (const PlannedTensor& planned : shard.tensors) {
      const SourceTensor& source = checkpoint.tensors()[planned.source];
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      most = std::max(most, source.bnb != nullptr ? CopiedNeed(source, tensor, compression)
                            : tensor.quantized()
                                ? QuantizedNeed(source, tensor, planned.calibrated, threads, engine, compression)
                                : KeptNeed(source, tensor.dtype, compression));
    }
  }
  return most + kJobBytes + IndexMemory(plan) + ReadMemory(plan, threads) + FixedMemory(engine, threads, max_memory);
}

std::vector<FeedbackUse> FeedbackUses(const Checkpoint& checkpoint, const ConversionPlan& plan) {
  std::vector<FeedbackUse> uses;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& planned : shard.tensors) {
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      if (!tensor.quantized() || !CodesNeedWholeTensor(tensor.encoder) || planned.calibrated.input == nullptr) continue;
      uses.push_back({&checkpoint.tensors()[planned.source], planned.calibrated.input});
    }
  }
  return uses;
}

std::uint64_t FactorRoom(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                         unsigned threads, const SlabEngine* engine, std::uint64_t max_memory) {
  const std::uint64_t wanted = FeedbackFactors::RoomFor(FeedbackUses(checkpoint, plan));
  if (wanted == 0) return 0;
  const std::uint64_t least = MinimumPipelineMemory(checkpoint, plan, options, threads, engine, max_memory);
  return std::min(wanted, (max_memory - std::min(max_memory, least)) / 2);
}

}  // namespace q4
