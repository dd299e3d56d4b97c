// Nested scales on the device (docs/numerics.md Q5): the sum behind the offset, quantization, decoding.
//
// Threads to data: in the sum and in decoding a thread takes 4 neighbouring scales at a time (16 bytes), with the
// grid's stride; in quantization a warp takes a group of 256, a lane 8 neighbouring ones, so that the group's maximum
// needs shuffles only.
// Memory: scales are 4 bytes per block of elements, a small part of what the encoder moves. They are read twice, for
// the sum and for their codes; the codes and absmax2 are written once. The offset stays on the device, so that nothing
// waits for the host.
// Occupancy: tables (1 KiB map, 2.4 KiB search) are in shared memory, and the grids of the kernels that use them are no
// larger than what is resident, so that few thread blocks set them up.
// Same bits: quantization and decoding are the operations of scales_scalar.cc, with a search proved equal
// (nested_search.h). The sum is the exception, in that it adds in another order:
//
// The sum (Q7.3) is defined by a sequence of fp64 additions, but nearly always any order gives its bits. Let every
// scale be a non-negative multiple of 2^q, q being the exponent of the lowest bit set in any of them. Then every
// partial sum, in any order and grouping, is a multiple of 2^q, and exact while it is below 2^(q + 53). Should one
// reach that, rounding cannot bring it back under (rounding is monotonic and 2^(q + 53) is representable) and neither
// can adding more. So, if the total computed in some order is below 2^(q + 53), every partial sum of that order was
// exact, and the total is the true sum; and as all partial sums of the specified order are no larger than the true sum,
// they are exact too, and its total is the same. Otherwise (or if a scale is negative or not finite) the additions are
// done one by one as specified: groups side by side, and then the groups' sums in order, by one thread.
#include <cstddef>
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_tables.cuh"
#include "kernels/cuda_vector.cuh"
#include "kernels/nested_search.h"

namespace q4::cuda {
namespace {

constexpr int kThreads = 256;
// A bound, because each thread block of FinishSumKernel merges all of their results: four to a thread.
constexpr std::uint64_t kMaxSumBlocks = 1024;    // thread blocks of the sum
constexpr std::uint64_t kScalesPerBlock = 8192;  // at least, but for the last

// ---- Sum

// ScaleSum::lowest_bit is stored with this added, so that the initial zero means "no scale but zero so far".
constexpr std::int32_t kLowestBitBias = -1024;
constexpr std::int32_t kNothing = 0;
constexpr std::int32_t kNotCovered = -1'000'000;  // a negative or non-finite scale: below any exponent

// The biased exponent of the lowest bit set in a scale. 150 is fp32's bias and its 23 mantissa bits; subnormals have
// the exponent of the smallest normal numbers.
__device__ std::int32_t LowestBitOf(float scale) {
  const std::uint32_t bits = BitsOf(scale);
  if (MagnitudeBits(scale) == 0) return kNothing;
  if (bits >= kF32Infinity) return kNotCovered;  // the sign bit makes `bits` larger still
  const auto exponent = static_cast<std::int32_t>(bits >> 23);
  const std::uint32_t mantissa = (bits & 0x007FFFFF) | (exponent == 0 ? 0 : 0x00800000);
  return kLowestBitBias + (exponent == 0 ? 1 : exponent) - 150 + __ffs(static_cast<int>(mantissa)) - 1;
}

// The condition of the design note. A zero tensor has the total 0 in any order. scalbn is exact: it makes a power of
// two.
__device__ bool EveryOrderIsExact(double total, std::int32_t lowest_bit) {
  if (lowest_bit == kNothing) return total == 0;
  if (lowest_bit == kNotCovered) return false;
  return total < scalbn(1.0, lowest_bit - kLowestBitBias + 53);
}

// A sum in some order, and the lowest bit of its terms.
struct PartialSum {
  double total;
  std::int32_t lowest_bit;
};

__device__ PartialSum Merged(PartialSum a, PartialSum b) {
  return {__dadd_rn(a.total, b.total), ::min(a.lowest_bit, b.lowest_bit)};
}

// Every thread's part, merged; the result is valid in all threads. A barrier lies between two calls. A thread's lanes
// first, by shuffles, then the warps through shared memory. Every thread adds in the same order, so all of them hold
// the same total.
__device__ PartialSum MergeOverBlock(PartialSum part) {
  __shared__ PartialSum warps[kThreads / kWarp];
  for (std::uint32_t distance = kWarp / 2; distance >= 1; distance /= 2) {
    part = Merged(part, {__shfl_xor_sync(kAllLanes, part.total, distance),
                         __shfl_xor_sync(kAllLanes, part.lowest_bit, distance)});
  }
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = part;
  __syncthreads();
  PartialSum all = warps[0];
  for (std::uint32_t w = 1; w < kThreads / kWarp; ++w) all = Merged(all, warps[w]);
  return all;
}

// SumScales' scratch memory: a ticket counter, the thread blocks' partial sums, the groups' sums.
struct SumWorkspace {
  unsigned ticket;
  PartialSum partials[kMaxSumBlocks];
  double groups[1];  // [GroupCount(blocks)]
};

__global__ void __launch_bounds__(kThreads)
    PartialSumsKernel(const float* scales, std::uint64_t blocks, SumWorkspace* workspace) {
  PartialSum part = {0, kNothing};
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kThreads * 4;
  // Whole vectors; the rest, at most three scales, belongs to the thread whose turn it would be.
  const std::uint64_t whole = blocks / 4 * 4;
  std::uint64_t i = (std::uint64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  for (; i < whole; i += stride) {
    const uint4 v = LoadVector(scales + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float scale = FloatOf(WordOf(v, j));
      part = Merged(part, {static_cast<double>(scale), LowestBitOf(scale)});
    }
  }
  if (i == whole) {
    for (; i < blocks; ++i) part = Merged(part, {static_cast<double>(scales[i]), LowestBitOf(scales[i])});
  }
  part = MergeOverBlock(part);
  if (threadIdx.x == 0) workspace->partials[blockIdx.x] = part;
  // For FinishSumKernel, which the stream runs after this one.
  if (blockIdx.x == 0 && threadIdx.x == 0) workspace->ticket = 0;
}

// Merges the partial sums (every thread block for itself) and, if that settles the total, ends there. Otherwise the
// thread blocks share the groups, and the one that finishes last adds the groups' sums.
__global__ void __launch_bounds__(kThreads) FinishSumKernel(const SumScalesArgs args, std::uint32_t partials) {
  auto* workspace = static_cast<SumWorkspace*>(args.workspace);
  PartialSum part = {0, kNothing};
  for (std::uint32_t i = threadIdx.x; i < partials; i += kThreads) part = Merged(part, workspace->partials[i]);
  part = MergeOverBlock(part);
  const ScaleSum before = *args.sum;  // written below by the last thread block only, after all others have read it
  const PartialSum all = Merged(part, {before.total, before.lowest_bit});
  // Every thread block decides by the same numbers, hence alike.
  const bool exact = EveryOrderIsExact(all.total, all.lowest_bit);

  if (!exact) {
    const std::uint64_t groups = GroupCount(args.blocks);
    for (std::uint64_t g = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x; g < groups;
         g += std::uint64_t{gridDim.x} * kThreads) {
      const std::uint64_t end = ::min((g + 1) * kScaleGroup, args.blocks);
      double sum = 0;
#pragma unroll 8
      for (std::uint64_t i = g * kScaleGroup; i < end; ++i) sum = __dadd_rn(sum, static_cast<double>(args.scales[i]));
      workspace->groups[g] = sum;
    }
  }

  // The fence makes this block's group sums visible before its ticket; the ticket is drawn by one thread, after all of
  // them have written.
  // The last thread block to come here writes the result.
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&workspace->ticket, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();

  double total = all.total;
  if (!exact) {
    // Q7.3's outer sum, one addition after the other by one thread; the others fetch the group sums for it. __ldcg
    // reads past the L1 cache, which knows nothing of other thread blocks' writes.
    __shared__ double chunk[kThreads * 4];
    const std::uint64_t groups = GroupCount(args.blocks);
    total = before.total;
    for (std::uint64_t begin = 0; begin < groups; begin += kThreads * 4) {
      const auto size = static_cast<std::uint32_t>(::min(groups - begin, std::uint64_t{kThreads * 4}));
      __syncthreads();
      for (std::uint32_t i = threadIdx.x; i < size; i += kThreads) chunk[i] = __ldcg(workspace->groups + begin + i);
      __syncthreads();
      if (threadIdx.x == 0) {
#pragma unroll 8
        for (std::uint32_t i = 0; i < size; ++i) total = __dadd_rn(total, chunk[i]);
      }
    }
  }
  if (threadIdx.x == 0) {
    // lowest_bit and used_fallback carry over to the next slab: one slab outside the condition puts the rest of the
    // tensor there too.
    *args.sum = {total, all.lowest_bit, before.used_fallback | static_cast<std::int32_t>(!exact)};
    if (args.offset != nullptr) {
      *args.offset = __double2float_rn(__ddiv_rn(total, static_cast<double>(args.total_blocks)));  // Q5.1
    }
  }
}

// ---- Quantize (Q5.2 to Q5.4)

// In global memory, as threads copy it side by side.
static __device__ const NestedSearch kDeviceNestedSearch = kNestedSearch;

// One warp per group; a lane holds 8 neighbouring scales.
constexpr std::uint32_t kLaneScales = kScaleGroup / kWarp;

__global__ void __launch_bounds__(kThreads) QuantizeScalesKernel(const QuantizeScalesArgs args, std::uint64_t groups) {
  __shared__ alignas(NestedSearch) unsigned char search_bytes[sizeof(NestedSearch)];
  static_assert(sizeof(NestedSearch) % 4 == 0);
  // Copied as words into raw bytes: shared memory cannot have a constructor.
  for (std::uint32_t i = threadIdx.x; i < sizeof(NestedSearch) / 4; i += kThreads) {
    reinterpret_cast<std::uint32_t*>(search_bytes)[i] = reinterpret_cast<const std::uint32_t*>(&kDeviceNestedSearch)[i];
  }
  __syncthreads();
  const auto& search = *reinterpret_cast<const NestedSearch*>(search_bytes);

  const float offset = *args.offset;
  const std::uint32_t lane = threadIdx.x % kWarp;
  const std::uint64_t warps = std::uint64_t{gridDim.x} * (kThreads / kWarp);
  for (std::uint64_t g = std::uint64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp; g < groups; g += warps) {
    const std::uint64_t begin = g * kScaleGroup + lane * kLaneScales;
    const bool whole = begin + kLaneScales <= args.blocks;
    float v[kLaneScales];  // Q5.2; 0 beyond the end
    if (whole) {
      const uint4 low = LoadVector(args.scales + begin), high = LoadVector(args.scales + begin + 4);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        v[j] = __fsub_rn(FloatOf(WordOf(low, j)), offset), v[4 + j] = __fsub_rn(FloatOf(WordOf(high, j)), offset);
    } else {
#pragma unroll
      for (std::uint32_t j = 0; j < kLaneScales; ++j)
        v[j] = begin + j < args.blocks ? __fsub_rn(args.scales[begin + j], offset) : 0.0f;
    }
    std::uint32_t max = 0;
#pragma unroll
    for (std::uint32_t j = 0; j < kLaneScales; ++j) max = ::max(max, MagnitudeBits(v[j]));
    // Q5.3. Zeros beyond the end of a partial group raise no maximum.
    max = MaxOverLanes<kWarp>(max);
    const float a = max == 0 ? 0.0f : FloatOf(max) > kAbsmax2Floor ? FloatOf(max) : kAbsmax2Floor;
    if (lane == 0) args.absmax2[g] = a;
    // Q5.4. Infinite where a is 0; then the code is kNestedZeroCode whatever t is.
    const float r = __frcp_rn(a);
    std::uint64_t packed = 0;
#pragma unroll
    for (std::uint32_t j = 0; j < kLaneScales; ++j) {
      const float t = __fmul_rn(v[j], r);
      const std::uint32_t bucket = NestedSearch::Bucket(BitsOf(t) & kF32SignBit, MagnitudeBits(t));
      const std::uint8_t code = max == 0 ? kNestedZeroCode : search.Count(bucket, t);
      packed |= std::uint64_t{code} << (8 * j);
    }
    if (whole) {
      // Eight codes at once; the address is a multiple of 8.
      *reinterpret_cast<std::uint64_t*>(args.codes + begin) = packed;
    } else {
#pragma unroll
      for (std::uint32_t j = 0; j < kLaneScales; ++j) {
        if (begin + j < args.blocks) args.codes[begin + j] = static_cast<std::uint8_t>(packed >> (8 * j));
      }
    }
  }
}

// ---- Decode (Q5.5)

// A thread decodes 4 neighbouring scales.
__global__ void __launch_bounds__(kThreads) DequantizeScalesKernel(const DequantizeScalesArgs args) {
  __shared__ float map[256];
  for (std::uint32_t i = threadIdx.x; i < 256; i += kThreads) map[i] = kDeviceNestedMap.values[i];
  __syncthreads();
  const float offset = *args.nested.offset;
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kThreads * 4;
  for (std::uint64_t i = (std::uint64_t{blockIdx.x} * kThreads + threadIdx.x) * 4; i < args.blocks; i += stride) {
    // Four neighbouring scales lie in one group.
    const float absmax2 = args.nested.absmax2[i / kScaleGroup];
    if (i + 4 <= args.blocks) {
      const uchar4 codes = *reinterpret_cast<const uchar4*>(args.nested.codes + i);
      *reinterpret_cast<float4*>(args.scales + i) = make_float4(
          DecodeNestedScale(map, codes.x, absmax2, offset), DecodeNestedScale(map, codes.y, absmax2, offset),
          DecodeNestedScale(map, codes.z, absmax2, offset), DecodeNestedScale(map, codes.w, absmax2, offset));
    } else {
      for (std::uint64_t k = i; k < args.blocks; ++k) {
        args.scales[k] = DecodeNestedScale(map, args.nested.codes[k], absmax2, offset);
      }
    }
  }
}

}  // namespace

std::uint64_t SumScalesWorkspace(std::uint64_t blocks) {
  return sizeof(SumWorkspace) + GroupCount(blocks) * sizeof(double);
}

KernelError SumScales(const SumScalesArgs& args, StreamHandle stream) {
  if (!IsAligned16(args.scales) || !IsAligned16(args.workspace)) return BadArgument("misaligned pointer");
  const std::uint64_t wanted = args.blocks / kScalesPerBlock + 1;
  const auto grid = static_cast<unsigned>(wanted < kMaxSumBlocks ? wanted : kMaxSumBlocks);
  auto* workspace = static_cast<SumWorkspace*>(args.workspace);
  PartialSumsKernel<<<grid, kThreads, 0, RawStream(stream)>>>(args.scales, args.blocks, workspace);
  if (KernelError error = CheckLaunch("sum the scales"); !error.ok()) return error;
  // Few thread blocks when little may have to be done one by one; they all but end at once otherwise.
  const std::uint64_t finishers = GroupCount(args.blocks) / kThreads + 1;
  FinishSumKernel<<<static_cast<unsigned>(finishers < 128 ? finishers : 128), kThreads, 0, RawStream(stream)>>>(args,
                                                                                                                grid);
  return CheckLaunch("finish the sum of the scales");
}

KernelError QuantizeScales(const QuantizeScalesArgs& args, StreamHandle stream) {
  if (!IsAligned16(args.scales) || !IsAligned16(args.codes)) return BadArgument("misaligned pointer");
  if (args.blocks == 0) return {};
  unsigned grid = 0;
  const std::uint64_t groups = GroupCount(args.blocks);
  if (KernelError error = ResidentGrid(QuantizeScalesKernel, kThreads, groups / (kThreads / kWarp) + 1, &grid);
      !error.ok())
    return error;
  QuantizeScalesKernel<<<grid, kThreads, 0, RawStream(stream)>>>(args, groups);
  return CheckLaunch("quantize the scales");
}

KernelError DequantizeScales(const DequantizeScalesArgs& args, StreamHandle stream) {
  if (!IsAligned16(args.scales) || !IsAligned16(args.nested.codes)) return BadArgument("misaligned pointer");
  if (args.blocks == 0) return {};
  unsigned grid = 0;
  if (KernelError error = ResidentGrid(DequantizeScalesKernel, kThreads, args.blocks / (4 * kThreads) + 1, &grid);
      !error.ok())
    return error;
  DequantizeScalesKernel<<<grid, kThreads, 0, RawStream(stream)>>>(args);
  return CheckLaunch("decode the scales");
}

}  // namespace q4::cuda
