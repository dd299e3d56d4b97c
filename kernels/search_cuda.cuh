// What the kernels of the encoders mse and weighted share (docs/numerics.md Q9, Q16): a block on sixteen lanes, and its
// error under a scale.
//
// Half a warp looks after a block: lane j holds the elements of sum lane j of Q7.1, j, j + 16, j + 32 and so on, in
// that order. So every sum over elements begins in a lane, in the order of the definition, and ends in the tree of
// Q7.1, which is a butterfly over the lanes: additions commute, so lane j and lane j xor w make the same sum, and all
// lanes end with that of lane 0.
#pragma once

#include <cstdint>

#include "kernels/cuda_kernels.h"
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

// A lane's elements of a run and, where they are weighted, what an error in each of them counts (Q16.1). Past the end
// of the block both are 0.
template <std::uint32_t kPerLane, bool kWeighted>
struct LaneElements {
  float x[kPerLane];
  float h[kWeighted ? kPerLane : 1];

  __device__ void Load(const LanesOfBlock& block, const ElementWeights& weights, std::uint32_t begin) {
    block.Load(begin, x);
    if constexpr (kWeighted) {
      const std::uint32_t at = begin + threadIdx.x % kBlockLanes;
#pragma unroll
      for (std::uint32_t m = 0; m < kPerLane; ++m) {
        const std::uint32_t i = at + m * kBlockLanes;
        h[m] =
            i < block.size ? weights.features[FeatureOf(weights, static_cast<std::uint32_t>(block.first) + i)] : 0.0f;
      }
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
template <std::uint32_t kPerLane, bool kWeighted, typename Column>
__device__ __forceinline__ double ErrorUnder(const Column& column, const LanesOfBlock& block,
                                             const ElementWeights& weights, std::uint32_t runs,
                                             LaneElements<kPerLane, kWeighted>& elements, float scale) {
  const float m = SignedDivisor(scale), r = __frcp_rn(m);
  double sum = 0;
  const auto add = [&](float x, float t, float h) {
    const double e = __dsub_rn(static_cast<double>(x), static_cast<double>(__fmul_rn(column.ValueOf(t), scale)));
    double square = __dmul_rn(e, e);
    if constexpr (kWeighted) square = __dmul_rn(square, static_cast<double>(h));
    sum = __dadd_rn(sum, square);
  };
#pragma unroll 1
  for (std::uint32_t run = 0; run < runs; ++run) {
    if (runs > 1) elements.Load(block, weights, run * kRunElems);
    if (block.is_tail) {
#pragma unroll 1
      for (std::uint32_t i = 0; i < kPerLane; ++i) {
        // Not by index, which would keep all of them in memory.
        float x = elements.x[0], h = elements.h[0];
#pragma unroll
        for (std::uint32_t k = 1; k < kPerLane; ++k) {
          x = i == k ? elements.x[k] : x;
          if constexpr (kWeighted) h = i == k ? elements.h[k] : h;
        }
        add(x, __fdiv_rn(x, m), h);
      }
    } else {
#pragma unroll
      for (std::uint32_t i = 0; i < kPerLane; ++i) {
        add(elements.x[i], __fmul_rn(elements.x[i], r), elements.h[kWeighted ? i : 0]);
      }
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

// Threads of a thread block, by the elements that a lane holds at a time. Weights lie in shared memory too, of which
// the oldest devices have 64 KiB.
template <std::uint32_t kPerLane, bool kWeighted>
inline constexpr int kSearchThreads = kWeighted       ? (kPerLane <= 2   ? 512
                                                         : kPerLane <= 8 ? 256
                                                                         : 128)
                                      : kPerLane <= 4 ? 512
                                                      : 256;

// Calls visit.operator()<elements per lane, both signs, weighted>(). REQUIRES: IsBlockSize(block_size).
template <typename Visit>
auto ForSearch(const SearchScalesArgs& args, const Visit& visit) {
  const auto for_weights = [&]<bool kBothSigns, bool kWeighted>() {
    switch (args.block_size) {
      case 32:
        return visit.template operator()<2, kBothSigns, kWeighted>();
      case 64:
        return visit.template operator()<4, kBothSigns, kWeighted>();
      case 128:
        return visit.template operator()<8, kBothSigns, kWeighted>();
      default:
        return visit.template operator()<16, kBothSigns, kWeighted>();
    }
  };
  const auto for_book = [&]<bool kBothSigns>() {
    return args.weights.features != nullptr ? for_weights.template operator()<kBothSigns, true>()
                                            : for_weights.template operator()<kBothSigns, false>();
  };
  return TriesBothSigns(args.book) ? for_book.template operator()<true>() : for_book.template operator()<false>();
}

}  // namespace q4::cuda
