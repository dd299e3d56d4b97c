// The search of the encoders mse and weighted on the device (docs/numerics.md Q9.4 to Q9.6, Q9.9, Q16.2):
// search_scalar.cc, step by step.
//
// Threads to data: half a warp looks after a block (search_cuda.cuh). While candidates are judged, each of its lanes is
// one factor, with either sign: it walks over the block's elements, which the lanes have laid out in shared memory by
// sum lanes, and all lanes read the same element at a time. So a candidate's sums are those of one thread, in the order
// of Q7.2. For the errors, each lane is a sum lane again.
//
// Work: per element and pair of candidates one product, one look-up of two values (search_cuda_tables.cuh: 8 bytes and
// 8 bytes of shared memory) and, for each of them, two products and two additions, 15 instructions; shared memory
// serves a warp's look-up in 4 cycles, in which a multiprocessor issues 16. 16 pairs make 120 instructions per element
// for a lane of 32, that is 240 issued for the block's 16 lanes; the errors add about 50. Weights add a product for
// each candidate, and a second array in shared memory.
// Memory: 2 bytes per element are read, far less than the memory could bring.
// Same bits: products, sums and quotients are the definition's, each correctly rounded. A sum begins with its first
// term and not with 0 plus it, which can make a zero negative: its square, its quotient and what is judged by them
// compare alike. fl(u * -f) is -fl(u * f).
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/search_cuda.cuh"
#include "kernels/search_cuda_kernels.cuh"

namespace q4::cuda {
namespace {

// One for each lane of a block; beyond the trials the first again, which is never better than itself.
struct Factors {
  float of[kBlockLanes];
};

Factors FactorsOf(CodeBook book, int effort) {
  const Candidates& candidates = CandidatesFor(book, effort);
  const std::size_t trials = TriesBothSigns(book) ? candidates.count / 2 : candidates.count;
  Factors factors;
  for (std::size_t i = 0; i < kBlockLanes; ++i) factors.of[i] = candidates.factors[i < trials ? i : 0];
  return factors;
}

// S32 of Q9.4 under a factor, and under its negative.
struct TrialSums {
  PatternSums plus, minus;
};

__device__ inline PatternSums Plus(PatternSums a, PatternSums b) {
  return {__fadd_rn(a.uc, b.uc), __fadd_rn(a.cc, b.cc)};
}
template <bool kBothSigns>
__device__ inline TrialSums Plus(const TrialSums& a, const TrialSums& b) {
  TrialSums sums = {Plus(a.plus, b.plus), {}};
  if constexpr (kBothSigns) sums.minus = Plus(a.minus, b.minus);
  return sums;
}

// What an element adds to the sums of one candidate, c being the value of its code.
template <bool kWeighted>
__device__ inline PatternSums TermUnder(float u, float h, float c) {
  const float hc = kWeighted ? __fmul_rn(h, c) : c;
  return {__fmul_rn(u, hc), __fmul_rn(c, hc)};
}

// What one element adds. `h`: its weight.
template <bool kBothSigns, bool kWeighted>
__device__ inline TrialSums TermOf(const SharedTrials::Column<kBothSigns>& column, float u, float h, float factor) {
  const TrialState c = column.At(__fmul_rn(u, factor));
  TrialSums term = {TermUnder<kWeighted>(u, h, c.value), {}};
  if constexpr (kBothSigns) term.minus = TermUnder<kWeighted>(u, h, c.mirrored);
  return term;
}

// One sum lane: kPerLane elements side by side in shared memory. Their weights lie `to_weights` behind them.
template <std::uint32_t kPerLane, bool kBothSigns, bool kWeighted>
__device__ inline TrialSums LaneSums(const SharedTrials::Column<kBothSigns>& column, const float* u,
                                     std::uint32_t to_weights, float factor) {
  const auto term = [&](float v, float h) { return TermOf<kBothSigns, kWeighted>(column, v, h, factor); };
  TrialSums sums;
  if constexpr (kPerLane == 2) {
    const float2 v = *reinterpret_cast<const float2*>(u);
    float2 h = {};
    if constexpr (kWeighted) h = *reinterpret_cast<const float2*>(u + to_weights);
    sums = term(v.x, h.x);
    return Plus<kBothSigns>(sums, term(v.y, h.y));
  } else {
    const auto add_four = [&](std::uint32_t i, bool is_first) {
      const float4 v = *reinterpret_cast<const float4*>(u + i);
      float4 h = {};
      if constexpr (kWeighted) h = *reinterpret_cast<const float4*>(u + to_weights + i);
      const TrialSums first = term(v.x, h.x);
      sums = is_first ? first : Plus<kBothSigns>(sums, first);
      sums = Plus<kBothSigns>(sums, term(v.y, h.y));
      sums = Plus<kBothSigns>(sums, term(v.z, h.z));
      sums = Plus<kBothSigns>(sums, term(v.w, h.w));
    };
    add_four(0, true);
#pragma unroll 1
    for (std::uint32_t i = 4; i < kPerLane; i += 4) add_four(i, false);
    return sums;
  }
}

// All of a run: the tree of Q7.1, depth first. u[16][kPerLane], by sum lane.
template <std::uint32_t kPerLane, bool kBothSigns, bool kWeighted>
__device__ inline TrialSums RunSums(const SharedTrials::Column<kBothSigns>& column, const float* u,
                                    std::uint32_t to_weights, float factor) {
  const auto lane = [&](const float* from, std::uint32_t j) {
    return LaneSums<kPerLane, kBothSigns, kWeighted>(column, from + j * kPerLane, to_weights, factor);
  };
  // Lane j of the tree's level with four lanes.
  const auto of_four = [&](const float* from, std::uint32_t j) {
    const TrialSums low = Plus<kBothSigns>(lane(from, j), lane(from, j + 8));
    return Plus<kBothSigns>(low, Plus<kBothSigns>(lane(from, j + 4), lane(from, j + 12)));
  };
  TrialSums sums = {};
#pragma unroll 1
  for (std::uint32_t j = 0; j < 2; ++j) {
    const float* const from = u + j * kPerLane;
    const TrialSums of_two = Plus<kBothSigns>(of_four(from, 0), of_four(from, 2));
    sums = j == 0 ? of_two : Plus<kBothSigns>(sums, of_two);
  }
  return sums;
}

// Orders candidates: the higher score, then the earlier place. 0 is no candidate: a score that is a NaN, of codes that
// are all 0, wins over nothing. Scores are not negative, so their bits ascend as they do.
__device__ inline std::uint64_t RankOf(PatternSums sums, std::uint32_t place) {
  const float score = __fdiv_rn(__fmul_rn(sums.uc, sums.uc), sums.cc);
  return score >= 0 ? std::uint64_t{BitsOf(score)} << 32 | (0xFFFFFFFF - place) : 0;
}

// A lane's candidates of blocks with several runs, whose sums are added in fp64.
struct TrialTotals {
  double plus_uc = 0, plus_cc = 0, minus_uc = 0, minus_cc = 0;
  __device__ void Add(const TrialSums& run) {
    plus_uc = __dadd_rn(plus_uc, static_cast<double>(run.plus.uc));
    plus_cc = __dadd_rn(plus_cc, static_cast<double>(run.plus.cc));
    minus_uc = __dadd_rn(minus_uc, static_cast<double>(run.minus.uc));
    minus_cc = __dadd_rn(minus_cc, static_cast<double>(run.minus.cc));
  }
  __device__ TrialSums Rounded() const {
    return {{__double2float_rn(plus_uc), __double2float_rn(plus_cc)},
            {__double2float_rn(minus_uc), __double2float_rn(minus_cc)}};
  }
};

// What a warp lays out for its two blocks: a run of each by sum lanes. The second begins half of the banks later, so
// that both are read at once. Then the weights in the same way.
template <std::uint32_t kPerLane, bool kWeighted>
struct WarpElements {
  static constexpr std::uint32_t kRun = kBlockLanes * kPerLane, kGap = 16, kToWeights = 2 * (kRun + kGap);
  float u[kWeighted ? 4 : 2][kRun + kGap];
};

template <std::uint32_t kPerLane, bool kWeighted>
struct SearchShared {
  SharedTrials trials;
  WarpElements<kPerLane, kWeighted> warps[kSearchThreads<kPerLane, kWeighted> / kWarp];
};
static_assert(sizeof(SearchShared<2, true>) <= 64 << 10 && sizeof(SearchShared<4, true>) <= 64 << 10 &&
              sizeof(SearchShared<8, true>) <= 64 << 10 && sizeof(SearchShared<16, true>) <= 64 << 10);

template <std::uint32_t kPerLane, bool kBothSigns, bool kWeighted>
__global__ void __launch_bounds__(kSearchThreads<kPerLane, kWeighted>, kPerLane <= (kWeighted ? 2 : 4) ? 2 : 3)
    SearchKernel(const SearchScalesArgs args, const Factors factors) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<SearchShared<kPerLane, kWeighted>*>(shared_bytes);
  // The outputs of such a slab are unspecified, and its "largest magnitudes" may be anything.
  if (*args.first_bad != kAllFinite) return;
  shared.trials.Fill(args.book);
  __syncthreads();

  constexpr std::uint32_t kWarps = kSearchThreads<kPerLane, kWeighted> / kWarp;
  constexpr std::uint32_t kToWeights = WarpElements<kPerLane, kWeighted>::kToWeights;
  const std::uint32_t lane = threadIdx.x % kBlockLanes;
  const SharedTrials::Column<kBothSigns> column(shared.trials, threadIdx.x % kWarp);
  float* const u = shared.warps[threadIdx.x / kWarp].u[threadIdx.x / kBlockLanes % 2];
  const float factor = factors.of[lane];
  const std::uint32_t runs = RunsOf<kPerLane>(args.block_size);
  const BlockTurns turns(args.n, args.block_size);

  for (std::uint64_t at = std::uint64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; at < turns.turns;
       at += std::uint64_t{gridDim.x} * kWarps) {
    const BlockTurns::Turn turn = turns.Of(at);
    const LanesOfBlock block = LanesOf(args.type, args.x, args.n, args.block_size, turn);
    const float a = args.absmax[turn.block];
    const bool is_searched = a >= kTiny;  // Q9.1
    const float p = is_searched ? __frcp_rn(a) : 0.0f;

    LaneElements<kPerLane, kWeighted> own_elements;
    TrialSums sums;
    TrialTotals totals;
    if (runs == 1) own_elements.Load(block, args.weights, 0);
#pragma unroll 1
    for (std::uint32_t run = 0; run < runs; ++run) {
      if (runs > 1) own_elements.Load(block, args.weights, run * kRunElems);
      __syncwarp();  // the lanes have read what lay there
#pragma unroll
      for (std::uint32_t m = 0; m < kPerLane; ++m) {
        u[lane * kPerLane + m] = __fmul_rn(own_elements.x[m], p);
        if constexpr (kWeighted) u[kToWeights + lane * kPerLane + m] = own_elements.h[m];
      }
      __syncwarp();
      sums = RunSums<kPerLane, kBothSigns, kWeighted>(column, u, kToWeights, factor);
      if constexpr (kPerLane == 16) totals.Add(sums);
    }
    if constexpr (kPerLane == 16) sums = totals.Rounded();

    // The best of the lane's candidates, then of the block's.
    std::uint64_t rank = RankOf(sums.plus, lane);
    PatternSums own = sums.plus;
    if constexpr (kBothSigns) {
      const std::uint64_t minus_rank = RankOf(sums.minus, kBlockLanes + lane);
      if (minus_rank > rank) {
        rank = minus_rank;
        own = sums.minus;
      }
    }
    const float own_q = __fdiv_rn(own.uc, own.cc);
#pragma unroll
    for (std::uint32_t w = kBlockLanes / 2; w >= 1; w /= 2) {
      const std::uint64_t other = __shfl_xor_sync(kAllLanes, rank, w);
      rank = other > rank ? other : rank;
    }
    const std::uint32_t place = 0xFFFFFFFF - static_cast<std::uint32_t>(rank);
    const float best_q = __shfl_sync(kAllLanes, own_q, static_cast<int>(place % kBlockLanes), kBlockLanes);
    const float q = rank == 0 ? 1.0f : best_q;

    // Q9.6. A scale that cannot be taken is judged as that of absmax, and is not better.
    const float wanted = SnappedScale(a, q);
    const float s = is_searched && IsUsableScale(args.type, wanted) ? wanted : a;
    const double absmax_error = ErrorUnder(column, block, args.weights, runs, own_elements, a);
    const double error = ErrorUnder(column, block, args.weights, runs, own_elements, s);
    const PatternSums first = {__shfl_sync(kAllLanes, sums.plus.uc, 0, kBlockLanes),
                               __shfl_sync(kAllLanes, sums.plus.cc, 0, kBlockLanes)};
    if (lane == 0 && turn.is_own) {
      args.scales[turn.block] = error < absmax_error ? s : a;
      if (args.floors != nullptr) {
        args.floors[turn.block] = is_searched && !turn.is_tail ? AbsmaxFloor(a, absmax_error, first) : 0;
      }
    }
  }
}

}  // namespace

KernelError SearchScales(const SearchScalesArgs& args, StreamHandle stream) {
  if (args.absmax == nullptr || args.scales == nullptr) return BadArgument("no place for scales");
  if (!IsAligned16(args.scales)) return BadArgument("misaligned pointer");
  if (args.effort < kLeastEffort || args.effort > kMostEffort) return BadArgument("effort");
  const ElementWeights& weights = args.weights;
  if (weights.features != nullptr && (args.n > kMostWeightedElems || weights.columns > kMostWeightedColumns ||
                                      weights.columns == 0 || weights.rows == 0)) {
    return BadArgument("weights of so many elements");
  }
  // Q9.1: `a` and whether all elements are finite.
  const KernelError absmax =
      Quantize({args.type, args.book, args.x, args.n, args.block_size, nullptr, args.absmax, args.first_bad}, stream);
  if (!absmax.ok() || args.n == 0) return absmax;
  const KernelError searched = ForSearch(args, [&]<std::uint32_t kPerLane, bool kBothSigns, bool kWeighted>() {
    constexpr int kThreads = kSearchThreads<kPerLane, kWeighted>;
    constexpr std::size_t kBytes = sizeof(SearchShared<kPerLane, kWeighted>);
    const auto kernel = SearchKernel<kPerLane, kBothSigns, kWeighted>;
    if (KernelError error = AllowSharedMemory(kernel, kBytes); !error.ok()) return error;
    unsigned grid = 0;
    const std::uint64_t turns = BlockTurns(args.n, args.block_size).turns;
    if (KernelError error = ResidentGrid(kernel, kThreads, turns / (kThreads / kWarp) + 1, &grid, kBytes); !error.ok())
      return error;
    kernel<<<grid, kThreads, kBytes, RawStream(stream)>>>(args, FactorsOf(args.book, args.effort));
    return CheckLaunch("search scales");
  });
  if (!searched.ok() || args.effort != kMostEffort) return searched;
  return SweepScales(args, stream);
}

}  // namespace q4::cuda
