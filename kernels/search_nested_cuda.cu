// What follows the search of the encoders mse and weighted on the device: nested scales (docs/numerics.md Q9.8, Q9.9),
// and codes under scales of either sign (Q9.2).
//
// Nested scales: the group scales and scale codes are those of QuantizeScales with the offset 0. Then a thread block
// takes a group of 256 blocks, half a warp a block at a time, and tries absmax' scale in the same grid; its two sums
// are added up in the order of blocks by one thread each, while other thread blocks go on.
// Memory: x is read from the second-level cache or from memory for two errors; 50 G elements/s are 100 GB/s.
//
// Codes: a thread takes 8 elements and stores 4 bytes. Scaled elements are brought to [-1, 1], beyond which no code
// changes (Q4.5), and looked up as in quantize_cuda.cuh; a scale that is not the block's largest magnitude leads beyond
// it. Bound by memory.
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/nested_search.h"
#include "kernels/search_cuda.cuh"

namespace q4::cuda {
namespace {

// ---- Nested scales

constexpr int kNestThreads = 512;
constexpr std::uint32_t kNestBlocks = kNestThreads / kBlockLanes;  // blocks that a thread block looks at side by side

struct NestShared {
  SharedTrials trials;
  double errors[kScaleGroup], floors[kScaleGroup];  // of a group's blocks
};

// Q7.3: one after the other. Values are read ahead of the additions, 16 at a time.
__device__ inline double SumInOrder(const double* values, std::uint32_t size) {
  double sum = 0;
#pragma unroll 16
  for (std::uint32_t k = 0; k < size; ++k) sum = __dadd_rn(sum, values[k]);
  return sum;
}

static __device__ const NestedSearch kSearchOfNested = kNestedSearch;

// CodesUnderGroups, of one scale.
__device__ inline std::uint32_t ScaleCodeOf(float scale, float absmax2) {
  const float t = absmax2 == 0 ? 0.0f : __fmul_rn(scale, __frcp_rn(absmax2));
  return kSearchOfNested.Count(NestedSearch::Bucket(BitsOf(t) & kF32SignBit, MagnitudeBits(t)), t);
}

template <std::uint32_t kPerLane, bool kBothSigns, bool kWeighted>
__global__ void __launch_bounds__(kNestThreads, 2) NestKernel(const NestSearchedArgs args, std::uint64_t groups) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<NestShared*>(shared_bytes);
  const SearchScalesArgs& search = args.searched;
  if (*search.first_bad != kAllFinite) return;
  shared.trials.Fill(search.book);
  __syncthreads();

  const SharedTrials::Column<kBothSigns> column(shared.trials, threadIdx.x % kWarp);
  const std::uint32_t runs = RunsOf<kPerLane>(search.block_size);
  const std::uint64_t full = search.n / search.block_size;
  const std::uint64_t blocks = full + (search.n % search.block_size != 0);
  for (std::uint64_t group = blockIdx.x; group < groups; group += gridDim.x) {
    const std::uint64_t begin = group * kScaleGroup;
    const std::uint32_t size = blocks - begin < kScaleGroup ? static_cast<std::uint32_t>(blocks - begin) : kScaleGroup;
    const float absmax2 = args.absmax2[group];
    // By all threads: one alone would wait for each of them.
    for (std::uint32_t k = threadIdx.x; k < size; k += kNestThreads) shared.floors[k] = search.floors[begin + k];
    // Both halves of a warp come along while one of them has a block. Where one has the tail block, both work on it:
    // whether blocks are full is the same for a warp.
    for (std::uint32_t at = threadIdx.x / kWarp * 2; at < size; at += kNestBlocks) {
      for (std::uint32_t half = 0; half < 2; ++half) {
        // Full blocks: once, each half its own. The tail block: in a step of its own.
        const bool pair_has_tail = begin + at + 2 > full;
        if (half == 1 && !pair_has_tail) break;
        const std::uint32_t own = at + threadIdx.x / kBlockLanes % 2;
        const std::uint32_t k = pair_has_tail ? at + half : own;
        if (k >= size) break;  // the same for all lanes: only pairs with the tail, or what lies beyond it, end early
        const bool is_own = !pair_has_tail || threadIdx.x / kBlockLanes % 2 == 0;
        const std::uint64_t block_index = begin + k;
        const BlockTurns::Turn turn = {block_index, block_index >= full, is_own};
        const LanesOfBlock block = LanesOf(search.type, search.x, search.n, search.block_size, turn);
        LaneElements<kPerLane, kWeighted> elements;
        if (runs == 1) elements.Load(block, search.weights, 0);
        const float d = DecodeNestedScale(kDeviceNestedMap.values, args.scale_codes[block_index], absmax2, 0.0f);
        const std::uint32_t rival_code = ScaleCodeOf(search.absmax[block_index], absmax2);
        const float rival = DecodeNestedScale(kDeviceNestedMap.values, rival_code, absmax2, 0.0f);
        const double error = ErrorUnder(column, block, search.weights, runs, elements, d);
        const double rival_error = ErrorUnder(column, block, search.weights, runs, elements, rival);
        if (threadIdx.x % kBlockLanes == 0 && is_own) {
          if (rival_error < error) args.scale_codes[block_index] = static_cast<std::uint8_t>(rival_code);
          shared.errors[k] = rival_error < error ? rival_error : error;
        }
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) args.losses[group].error = SumInOrder(shared.errors, size);
    if (threadIdx.x == kWarp) args.losses[group].absmax_floor = SumInOrder(shared.floors, size);
    __syncthreads();
  }
}

// ---- Codes

constexpr int kCodeThreads = 256;
constexpr std::uint32_t kThreadElems = 8;

__device__ inline float Clamped(float t) { return fminf(fmaxf(t, -1.0f), 1.0f); }

template <FloatType kType>
__global__ void __launch_bounds__(kCodeThreads) CodesUnderKernel(const CodesUnderArgs args) {
  __shared__ SharedCodeCells cells;
  cells.Fill(args.book);
  __syncthreads();
  const SharedCodeCells::Column column = cells.ColumnOf(threadIdx.x % kWarp);
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kCodeThreads;
  const std::uint64_t thread = std::uint64_t{blockIdx.x} * kCodeThreads + threadIdx.x;
  const std::uint64_t full = args.n / args.block_size * args.block_size;
  const auto block_shift = static_cast<std::uint32_t>(__ffs(static_cast<int>(args.block_size))) - 1;
  const auto* const x = static_cast<const unsigned char*>(args.x);
  for (std::uint64_t i = thread * kThreadElems; i < full; i += stride * kThreadElems) {
    const float r = __frcp_rn(SignedDivisor(args.scales[i >> block_shift]));
    // One vector of 16-bit elements, two of fp32.
    constexpr int kVectors = kType == FloatType::kF32 ? 2 : 1;
    uint4 v[kVectors];
#pragma unroll
    for (int k = 0; k < kVectors; ++k) v[k] = LoadVector(x + i * kElementBytes<kType> + 16 * k);
    // The last byte first, as EncodeVector does.
    std::uint32_t packed = 0;
#pragma unroll
    for (int byte = 3; byte >= 0; --byte) {
      constexpr int kOfVector = static_cast<int>(kVectorSize<kType>);
      const int first = 2 * byte, second = first + 1;
      const float low = ElementOf<kType>(v[first / kOfVector], first % kOfVector);
      const float high = ElementOf<kType>(v[second / kOfVector], second % kOfVector);
      packed = column.Append(packed, Clamped(__fmul_rn(low, r)));
      packed = column.Append(packed, Clamped(__fmul_rn(high, r)));
    }
    *reinterpret_cast<std::uint32_t*>(args.codes + i / 2) = packed;
  }
  // The tail block: a thread a byte.
  for (std::uint64_t i = full + 2 * thread; i < args.n; i += 2 * stride) {
    const float m = SignedDivisor(args.scales[full >> block_shift]);
    const float second = i + 1 < args.n ? Clamped(__fdiv_rn(LoadElement(kType, x, i + 1), m)) : 0.0f;  // Q3.2
    const std::uint32_t packed = column.Append(0, Clamped(__fdiv_rn(LoadElement(kType, x, i), m)));
    args.codes[i / 2] = static_cast<std::uint8_t>(column.Append(packed, second));
  }
}

template <FloatType kType>
KernelError LaunchCodesUnder(const CodesUnderArgs& args, StreamHandle stream) {
  unsigned grid = 0;
  const std::uint64_t work = args.n / (kThreadElems * kCodeThreads) + 1;
  if (KernelError error = ResidentGrid(CodesUnderKernel<kType>, kCodeThreads, work, &grid); !error.ok()) return error;
  CodesUnderKernel<kType><<<grid, kCodeThreads, 0, RawStream(stream)>>>(args);
  return CheckLaunch("choose codes");
}

}  // namespace

KernelError NestSearchedScales(const NestSearchedArgs& args, StreamHandle stream) {
  const SearchScalesArgs& search = args.searched;
  if (!IsBlockSize(search.block_size)) return BadArgument("block size");
  if (search.floors == nullptr || args.losses == nullptr) return BadArgument("no place for losses");
  if (search.n == 0) return {};
  const cudaError_t cleared = cudaMemsetAsync(args.zero, 0, sizeof(*args.zero), RawStream(stream));
  if (cleared != cudaSuccess) return Check(cleared, "clear the offset");
  const std::uint64_t blocks = BlockCount(search.n, search.block_size), groups = GroupCount(blocks);
  const KernelError nested = QuantizeScales({search.scales, blocks, args.zero, args.scale_codes, args.absmax2}, stream);
  if (!nested.ok()) return nested;
  return ForSearch(search, [&]<std::uint32_t kPerLane, bool kBothSigns, bool kWeighted>() {
    const auto kernel = NestKernel<kPerLane, kBothSigns, kWeighted>;
    if (KernelError error = AllowSharedMemory(kernel, sizeof(NestShared)); !error.ok()) return error;
    unsigned grid = 0;
    if (KernelError error = ResidentGrid(kernel, kNestThreads, groups, &grid, sizeof(NestShared)); !error.ok())
      return error;
    kernel<<<grid, kNestThreads, sizeof(NestShared), RawStream(stream)>>>(args, groups);
    return CheckLaunch("nest searched scales");
  });
}

KernelError CodesUnder(const CodesUnderArgs& args, StreamHandle stream) {
  if (!IsBlockSize(args.block_size)) return BadArgument("block size");
  if (!IsAligned16(args.x) || !IsAligned16(args.codes)) return BadArgument("misaligned pointer");
  if (args.n == 0) return {};
  if (args.type == FloatType::kF32) return LaunchCodesUnder<FloatType::kF32>(args, stream);
  if (args.type == FloatType::kF16) return LaunchCodesUnder<FloatType::kF16>(args, stream);
  return LaunchCodesUnder<FloatType::kBF16>(args, stream);
}

}  // namespace q4::cuda
