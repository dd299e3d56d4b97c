// What the kernels of the encoder mse share (docs/numerics.md Q9): a block on sixteen lanes, and its error under a
// scale.
//
// Half a warp looks after a block: lane j holds the elements of sum lane j of Q7.1, j, j + 16, j + 32 and so on, in
// that order. So every sum over elements begins in a lane, in the order of the definition, and ends in the tree of
// Q7.1, which is a butterfly over the lanes: additions commute, so lane j and lane j xor w make the same sum, and all
// lanes end with that of lane 0.
#pragma once

#include <cstdint>

#include "kernels/cuda_vector.cuh"
#include "kernels/numeric.h"
#include "kernels/search.h"
#include "kernels/search_cuda_tables.cuh"

namespace q4::cuda {

inline constexpr std::uint32_t kBlockLanes = 16;
// Elements are taken in runs of at most 256 (Q7.2), hence at most 16 a lane.
inline constexpr std::uint32_t kRunElems = 256;

// Runs of a block; the compiler is told where there is one.
template <std::uint32_t kPerLane>
__device__ inline std::uint32_t RunsOf(std::uint32_t block_size) {
  return kPerLane * kBlockLanes < kRunElems ? 1 : block_size / kRunElems;
}

// A block as its lanes see it. Elements past its end are zeros: their codes have the value 0, so they add nothing.
struct LanesOfBlock {
  FloatType type;
  const void* x;        // the slab's elements, aligned to their size
  std::uint64_t first;  // the block's first element
  std::uint32_t size;   // its elements
  bool is_tail;         // not full: divides (Q9.2)

  // The lane's elements of the run that begins at element `begin` of the block, widened.
  template <std::uint32_t kPerLane>
  __device__ void Load(std::uint32_t begin, float (&elements)[kPerLane]) const {
    const std::uint32_t at = begin + threadIdx.x % kBlockLanes;
    if (type == FloatType::kF32) {
      const float* const from = static_cast<const float*>(x) + first;
#pragma unroll
      for (std::uint32_t m = 0; m < kPerLane; ++m) {
        const std::uint32_t i = at + m * kBlockLanes;
        elements[m] = i < size ? from[i] : 0.0f;
      }
      return;
    }
    const std::uint16_t* const from = static_cast<const std::uint16_t*>(x) + first;
#pragma unroll
    for (std::uint32_t m = 0; m < kPerLane; ++m) {
      const std::uint32_t i = at + m * kBlockLanes;
      const std::uint32_t half = i < size ? from[i] : 0;
      elements[m] = type == FloatType::kF16 ? WidenLow<FloatType::kF16>(half) : WidenLow<FloatType::kBF16>(half);
    }
  }
};

// The tree of Q7.1 over a block's lanes, in each of them.
__device__ inline double FoldLanes(double sum) {
#pragma unroll
  for (std::uint32_t w = kBlockLanes / 2; w >= 1; w /= 2) sum = __dadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, w));
  return sum;
}

// Q9.3: the error of a block under any finite scale, in each of its lanes. All lanes of the warp come here together,
// with blocks that are all full or all not. `elements`: those of the lane where the block is one run; else they are
// loaded again, run by run. `runs`: of the block size.
template <std::uint32_t kPerLane, typename Column>
__device__ __forceinline__ double ErrorUnder(const Column& column, const LanesOfBlock& block, std::uint32_t runs,
                                             float (&elements)[kPerLane], float scale) {
  const float m = SignedDivisor(scale), r = __frcp_rn(m);
  double sum = 0;
  const auto add = [&](float x, float t) {
    const double e = __dsub_rn(static_cast<double>(x), static_cast<double>(__fmul_rn(column.ValueOf(t), scale)));
    sum = __dadd_rn(sum, __dmul_rn(e, e));
  };
#pragma unroll 1
  for (std::uint32_t run = 0; run < runs; ++run) {
    if (runs > 1) block.Load(run * kRunElems, elements);
    if (block.is_tail) {
#pragma unroll 1
      for (std::uint32_t i = 0; i < kPerLane; ++i) {
        // Not by index, which would keep all of them in memory.
        float x = elements[0];
#pragma unroll
        for (std::uint32_t k = 1; k < kPerLane; ++k) x = i == k ? elements[k] : x;
        add(x, __fdiv_rn(x, m));
      }
    } else {
#pragma unroll
      for (std::uint32_t i = 0; i < kPerLane; ++i) add(elements[i], __fmul_rn(elements[i], r));
    }
  }
  return FoldLanes(sum);
}

// Which blocks a warp works on in a turn: two full ones, or in the last turn the tail block.
struct BlockTurns {
  std::uint64_t full, turns;  // full blocks; turns of a warp
  __host__ __device__ BlockTurns(std::uint64_t n, std::uint32_t block_size)
      : full(n / block_size), turns((full + 1) / 2 + (n % block_size != 0)) {}

  struct Turn {
    std::uint64_t block;  // of these lanes
    bool is_tail;         // so for all lanes of the warp
    bool is_own;          // whether the lanes are to write its results; else they repeat another block
  };
  __device__ Turn Of(std::uint64_t turn) const {
    const std::uint64_t half = threadIdx.x / kBlockLanes % 2, block = 2 * turn + half;
    if (turn == (full + 1) / 2) return {full, true, half == 0};
    return {block < full ? block : full - 1, false, block < full};
  }
};

// The block of a turn.
__device__ inline LanesOfBlock LanesOf(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size,
                                       const BlockTurns::Turn& turn) {
  const std::uint64_t first = turn.block * block_size;
  return {type, x, first, turn.is_tail ? static_cast<std::uint32_t>(n - first) : block_size, turn.is_tail};
}

// Threads of a thread block, by the elements that a lane holds at a time.
template <std::uint32_t kPerLane>
inline constexpr int kSearchThreads = kPerLane <= 4 ? 512 : 256;

// Calls visit.operator()<elements per lane, both signs>(). REQUIRES: IsBlockSize(block_size).
template <typename Visit>
auto ForSearch(CodeBook book, std::uint32_t block_size, const Visit& visit) {
  const auto for_book = [&]<bool kBothSigns>() {
    switch (block_size) {
      case 32:
        return visit.template operator()<2, kBothSigns>();
      case 64:
        return visit.template operator()<4, kBothSigns>();
      case 128:
        return visit.template operator()<8, kBothSigns>();
      default:
        return visit.template operator()<16, kBothSigns>();
    }
  };
  return TriesBothSigns(book) ? for_book.template operator()<true>() : for_book.template operator()<false>();
}

}  // namespace q4::cuda
