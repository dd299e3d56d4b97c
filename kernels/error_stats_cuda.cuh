// What the two kernels with error statistics share (docs/numerics.md Q7, Q8): error_stats_cuda.cu takes them of codes
// that exist, for any shape, and quantize_stats_cuda.cu while it quantizes. As error_stats_scalar.cc, with this
// division of work:
// - A group of 256 blocks belongs to one team: a warp or, where groups are large and so few, a thread block. The team
//   takes the group's blocks in order, a tile of 32 to a warp at a time, and one of its warps adds the block sums in
//   that order (Q7.3).
// - Sums are fp64, operation by operation those of the reference.
// - Code counts are taken from packed codes, 32 at a time (CodeCounts).
// - Maxima: cheap estimates prove for nearly every block that it cannot raise a maximum found so far (Limits). Other
//   blocks are looked at again with the reference's operations (NoteExtremes).
//
// Same bits: sums have the order of the definition. Everything else is order-free: counts are integers, and a maximum
// comes with its smallest index, whichever warp found it. What warps learn of each other's maxima, and when, decides
// how many blocks are looked at again, not what is found.
// Order of this file: limits, code counts, shared memory, the rare path, the tail block, the end of a thread block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_tables.cuh"
#include "kernels/cuda_vector.cuh"
#include "kernels/error_stats_block.h"

namespace q4::cuda {

// Warps and threads of a thread block, blocks that a warp takes at a time, and tiles of a group.
inline constexpr std::uint32_t kStatsWarps = 4;
inline constexpr int kStatsThreads = kStatsWarps * kWarp;
inline constexpr std::uint32_t kTileBlocks = 32;
inline constexpr std::uint32_t kGroupTiles = kScaleGroup / kTileBlocks;
inline constexpr std::uint32_t kSumLanes = 16;   // Q7.1; a row of a block is 16 elements, one for each
inline constexpr std::uint64_t kMaxGrid = 1024;  // thread blocks, each with its SlabStats in the workspace
inline constexpr int kSums = 5;                  // of GroupSums, in its order
static_assert(sizeof(GroupSums) == kSums * sizeof(double));

// The end of both: args.stats from the parts that `count` thread blocks left in args.workspace. `count` may be 0: a
// slab without elements has statistics of zeros.
KernelError MergePartials(const ErrorStatsArgs& args, unsigned count, StreamHandle stream);

// QuantizeWithStats for the shapes that nearly all checkpoints have. Arguments are checked and *first_bad is cleared.
constexpr bool IsCommonShape(FloatType type, std::uint32_t block_size) {
  return type != FloatType::kF32 && block_size <= 64;
}
KernelError QuantizeCommonShape(const QuantizeArgs& quantize, const ErrorStatsArgs& stats, StreamHandle stream);

// ---- Intervals between code values

// By BookIndex; read on the rare path only.
static __constant__ constexpr TablePerBook<ValueIntervals> kIntervals = ForEachBook(IntervalsOf);

// In units of the scale.
constexpr double LargestHalfGap(CodeBook book) {
  const ValueIntervals intervals = IntervalsOf(book);
  double largest = 0;
  for (int j = 0; j < 15; ++j) largest = intervals.HalfGap(j) > largest ? intervals.HalfGap(j) : largest;
  return largest;
}

// ---- Limits

// Maxima found so far, in the form that the fast path compares with. Each warp has its own, and shares what it finds
// with all others through the workspace. When it learns of theirs decides about work, never about results.
struct Limits {
  float gap;        // of max_gap_ratio: rounded down
  float error;      // of max_abs_err: its high word
  double block_e2;  // of worst_block_e2

  // Whether a block raises neither max_abs_err nor worst_block_e2 and is not counted in zero_blocks. `max_error` is the
  // block's (MaxHighWord). Errors are no smaller than 2^-149, so one whose high word is 0 is 0. Strictly smaller: an
  // equal maximum might have a smaller index and has to be looked at.
  __device__ bool Cover(float max_error, double e2, double x2) const {
    return (max_error < error || max_error == 0) && (e2 < block_e2 || e2 == 0) && x2 != 0;
  }

  // Takes over what is larger. fmaxf and fmax prefer a number to a NaN.
  __device__ void Raise(const Limits& other) {
    gap = fmaxf(gap, other.gap);
    error = fmaxf(error, other.error);
    block_e2 = fmax(block_e2, other.block_e2);
  }

  // The same for limits in global memory, by any thread at any time. Non-negative floating-point numbers compare as
  // integers.
  __device__ void RaiseShared(const Limits& other) {
    atomicMax(reinterpret_cast<int*>(&gap), __float_as_int(other.gap));
    atomicMax(reinterpret_cast<int*>(&error), __float_as_int(other.error));
    atomicMax(reinterpret_cast<unsigned long long*>(&block_e2),
              static_cast<unsigned long long>(__double_as_longlong(other.block_e2)));
  }
  // Three separate reads, which need not be of one moment: each limit is true on its own, as maxima only grow.
  __device__ Limits ReadShared() const {
    const volatile Limits& now = *this;
    return {now.gap, now.error, now.block_e2};
  }
};

// args.workspace. The limits are 0 when a kernel begins. About 208 KiB, most of it the thread blocks' partial results.
struct StatsWorkspace {
  Limits limits;
  SlabStats partials[kMaxGrid];
};

// The running maximum of high words of |e|. A smaller high word is a smaller number. High words are compared as fp32,
// which has an instruction for it, and order as they should: those that would be NaN belong to |e| >= 2^1017, which
// only an infinite or NaN scale makes.
__device__ inline float MaxHighWord(float max, double e) {
  return fmaxf(max, fabsf(__int_as_float(__double2hiint(e))));
}

// Whether a scale of either sign is small enough for no output to overflow, and large enough for the estimates to hold.
// Others are looked at again as a whole: tiny, infinite and NaN scales, and those whose outputs could overflow.
template <FloatType kType>
__device__ bool IsOrdinary(float scale) {
  constexpr float kLowest = 0x1p-100f;
  constexpr float kHighest = kType == FloatType::kF16 ? 65504.0f : 0x1p+126f;
  return fabsf(scale) >= kLowest && fabsf(scale) <= kHighest;
}

// ---- Code counts

// Counts of codes by subset: number m, of 1 to 15, is how many codes have all bits of m set. That takes one AND and one
// population count for 32 codes, after their bits have been sorted into four words; the counts by code follow in the
// end (WritePartial).
class CodeCounts {
 public:
  // 32 codes, in any order. Codes 0 do not count. Two codes a byte, as they are packed; their order does not matter.
  __device__ void Add(const uint4& codes) {
    // Bits 0 and 2, then 1 and 3, of the codes of two words; then bit by bit, of all four.
    const std::uint32_t even_low = Select(0x55555555, codes.x, codes.y << 1),
                        odd_low = Select(0x55555555, codes.x >> 1, codes.y);
    const std::uint32_t even_high = Select(0x55555555, codes.z, codes.w << 1),
                        odd_high = Select(0x55555555, codes.z >> 1, codes.w);
    // Subset 1 holds bit 0 of all 32 codes, subset 2 bit 1, subset 4 bit 2, subset 8 bit 3, and a code has the same
    // place in all four. So the AND of some of them holds the codes with all of these bits.
    std::uint32_t subset[16];
    subset[1] = Select(0x33333333, even_low, even_high << 2);
    subset[2] = Select(0x33333333, odd_low, odd_high << 2);
    subset[4] = Select(0x33333333, even_low >> 2, even_high);
    subset[8] = Select(0x33333333, odd_low >> 2, odd_high);
#pragma unroll
    for (std::uint32_t m = 1; m < 16; ++m) {
      // In ascending order of m, so the smaller set is there already.
      const std::uint32_t lowest = m & (0u - m);
      if (m != lowest) subset[m] = subset[m - lowest] & subset[lowest];
      pairs_[m / 2] += static_cast<std::uint32_t>(__popc(subset[m])) << (16 * (m % 2));
    }
  }

  // Counts may rest in memory, as two vectors.
  static __device__ CodeCounts From(const uint4& low, const uint4& high) {
    CodeCounts counts;
#pragma unroll
    for (int i = 0; i < 4; ++i) counts.pairs_[i] = WordOf(low, i), counts.pairs_[4 + i] = WordOf(high, i);
    return counts;
  }
  __device__ uint4 Low() const { return make_uint4(pairs_[0], pairs_[1], pairs_[2], pairs_[3]); }
  __device__ uint4 High() const { return make_uint4(pairs_[4], pairs_[5], pairs_[6], pairs_[7]); }

  // Adds the counts to the lane's column and starts again at 0. Due before 65,536 codes. The counters have 16 bits.
  // Four warps share the columns, hence atomic additions, of integers.
  __device__ void FlushTo(std::uint32_t (*columns)[kWarp]) {
#pragma unroll
    for (std::uint32_t m = 1; m < 16; ++m) {
      atomicAdd(&columns[m][threadIdx.x % kWarp], m % 2 == 0 ? pairs_[m / 2] & 0xFFFF : pairs_[m / 2] >> 16);
    }
#pragma unroll
    for (std::uint32_t& pair : pairs_) pair = 0;
  }

 private:
  // Bits of a where the mask is set, bits of b elsewhere.
  static __device__ std::uint32_t Select(std::uint32_t mask, std::uint32_t a, std::uint32_t b) {
    return (a & mask) | (b & ~mask);
  }

  // Two counters to a register.
  std::uint32_t pairs_[8] = {};  // number m in 16 bits of word m / 2
};

// ---- Shared memory

// The order-free statistics of one warp. Only lane 0 changes them. Fields as in SlabStats.
struct WarpExtremes {
  double max_abs_err, max_gap_ratio, worst_block_e2;
  std::uint64_t max_abs_err_index, worst_block;
  std::uint64_t zero_blocks, tiny_blocks, clipped, overflow;
};

// Of a thread block, and what its kernel adds. About 8 KiB.
struct StatsShared {
  alignas(16) double sums[kStatsWarps][kSums]
                         [kTileBlocks + 2];  // of the blocks of each warp's tile; padded against bank conflicts
  WarpExtremes extremes[kStatsWarps];
  Limits limits[kStatsWarps];       // only lane 0 changes them
  Limits* all_limits;               // in the workspace
  std::uint32_t counts[16][kWarp];  // CodeCounts, a column for each lane

  // By all threads; a barrier must follow.
  __device__ void Prepare(StatsWorkspace* workspace) {
    for (std::uint32_t i = threadIdx.x; i < 16 * kWarp; i += kStatsThreads) counts[i / kWarp][i % kWarp] = 0;
    if (threadIdx.x < kStatsWarps) extremes[threadIdx.x] = {}, limits[threadIdx.x] = {};
    if (threadIdx.x == 0) all_limits = &workspace->limits;
  }

  // Learns what other warps have found. Called once for each group, and before a block is looked at again.
  __device__ void RefreshLimits() {
    if (threadIdx.x % kWarp == 0) limits[threadIdx.x / kWarp].Raise(all_limits->ReadShared());
    __syncwarp();
  }

  // `sum` and, in order, the sums number `s` of a warp's tile, or of its first `size` blocks (Q7.3). Two sums a read;
  // additions stay in the order of the blocks.
  __device__ double AddTile(double sum, std::uint32_t warp, std::uint32_t s) const {
    const auto* pairs = reinterpret_cast<const double2*>(sums[warp][s]);
#pragma unroll
    for (std::uint32_t k = 0; k < kTileBlocks / 2; ++k) sum = __dadd_rn(__dadd_rn(sum, pairs[k].x), pairs[k].y);
    return sum;
  }
  __device__ double AddTile(double sum, std::uint32_t warp, std::uint32_t s, std::uint32_t size) const {
    if (size == kTileBlocks) return AddTile(sum, warp, s);
    for (std::uint32_t k = 0; k < size; ++k) sum = __dadd_rn(sum, sums[warp][s][k]);
    return sum;
  }
};

// ---- Extremes (the rare path)

// One lane's findings. In registers. Indices are the slab's.
struct Extremes {
  double max_abs_err = 0, max_gap_ratio = 0;
  std::uint64_t max_abs_err_index = 0;
  std::uint32_t clipped = 0, overflow = 0;
};

// x widened, and y32 of Q6.1, of one element; a NaN need not be canonical here, since only comparisons and sums follow.
struct Element {
  float x, y;
  __device__ double Error() const { return __dsub_rn(static_cast<double>(x), static_cast<double>(y)); }
};

// Element i of the slab, by the reference's steps: LoadElement, UnpackCode, Decode.
__device__ inline Element ElementAt(const ErrorStatsArgs& args, std::uint64_t i, float scale) {
  return {LoadElement(args.type, args.x, i), __fmul_rn(CodeValueOf(args.book, UnpackCode(args.codes, i)), scale)};
}

// Q8.2, as NoteMaxAbsError of the reference. A lane's elements come in ascending order, so its first one wins.
__device__ inline void NoteMaxAbsError(const Element& element, std::uint64_t i, Extremes* found) {
  const double error = fabs(element.Error());
  if (error > found->max_abs_err) {
    found->max_abs_err = error;
    found->max_abs_err_index = i;
  }
}

// Q8.7, as NoteGapRatio of the reference, operation by operation.
__device__ inline void NoteGapRatio(const ErrorStatsArgs& args, const Element& element, float scale, Extremes* found) {
  if (!(fabsf(scale) >= kTiny)) return;
  const ValueIntervals& intervals = kIntervals.of[BookIndex(args.book)];
  const double s = static_cast<double>(scale);
  const double u = __ddiv_rn(static_cast<double>(element.x), s);
  if (u < intervals.values[0] || u > intervals.values[15]) {
    ++found->clipped;
    return;
  }
  int j = 0;  // the smallest interval that holds u: as many inner values are strictly below it
  for (int k = 1; k < 15; ++k) j += u > intervals.values[k];
  const double ratio = __ddiv_rn(fabs(element.Error()), __dmul_rn(intervals.HalfGap(j), fabs(s)));
  if (ratio > found->max_gap_ratio) found->max_gap_ratio = ratio;
}

// Adds to the warp's extremes what its lanes found in a block, and what the block's sums S64(e*e) and S64(x*x) tell.
__device__ inline void NoteBlock(const Extremes& found, std::uint64_t block, float scale, double e2, double x2,
                                 StatsShared* shared) {
  // Over the lanes: the largest error and, among equals, its smallest index; a lane without one has error 0.
  double err = found.max_abs_err, gap = found.max_gap_ratio;
  std::uint64_t err_index = found.max_abs_err_index;
  for (std::uint32_t distance = kWarp / 2; distance >= 1; distance /= 2) {
    const double other_err = __shfl_xor_sync(kAllLanes, err, distance);
    const std::uint64_t other_index = __shfl_xor_sync(kAllLanes, err_index, distance);
    if (other_err > err || (other_err == err && other_index < err_index)) err = other_err, err_index = other_index;
    const double other_gap = __shfl_xor_sync(kAllLanes, gap, distance);
    if (other_gap > gap) gap = other_gap;
  }
  const std::uint32_t overflow = SumOverWarp(found.overflow), clipped = SumOverWarp(found.clipped);
  if (threadIdx.x % kWarp == 0) {
    WarpExtremes& all = shared->extremes[threadIdx.x / kWarp];
    all.overflow += overflow;
    all.clipped += clipped;
    // CountZeroAndTiny and NoteWorstBlock of the reference.
    const bool is_zero = x2 == 0;  // squares of fp32 numbers do not vanish in fp64
    all.zero_blocks += is_zero;
    all.tiny_blocks += !is_zero && fabsf(scale) < kTiny;
    // Among equals the smaller index, since warps take groups in any order; 0 is not an error worth an index.
    if (err > all.max_abs_err || (err == all.max_abs_err && err > 0 && err_index < all.max_abs_err_index)) {
      all.max_abs_err = err;
      all.max_abs_err_index = err_index;
    }
    if (gap > all.max_gap_ratio) all.max_gap_ratio = gap;
    if (e2 > all.worst_block_e2 || (e2 == all.worst_block_e2 && e2 > 0 && block < all.worst_block)) {
      all.worst_block_e2 = e2;
      all.worst_block = block;
    }
    // Rounded down, so that a limit is never above the maximum that it stands for.
    const Limits found_limits = {__double2float_rd(all.max_gap_ratio), __int_as_float(__double2hiint(all.max_abs_err)),
                                 all.worst_block_e2};
    shared->limits[threadIdx.x / kWarp].Raise(found_limits);
    shared->all_limits->RaiseShared(found_limits);
  }
  __syncwarp();
}

// A full block, with the reference's operations, by all lanes of a warp. Clipped elements are counted elsewhere. Not
// inlined: the rare path must not take registers from the fast one. The lanes share out the block's elements.
static __device__ __noinline__ void NoteExtremes(const ErrorStatsArgs& args, std::uint64_t block, double e2, double x2,
                                                 StatsShared* shared) {
  const float scale = args.scales[block];
  Extremes found;
  for (std::uint64_t i = block * args.block_size + threadIdx.x % kWarp; i < (block + 1) * args.block_size; i += kWarp) {
    const Element element = ElementAt(args, i, scale);
    NoteMaxAbsError(element, i, &found);
    NoteGapRatio(args, element, scale, &found);
    found.overflow += IsInfinite(RoundTo(args.type, element.y));
  }
  found.clipped = 0;
  NoteBlock(found, block, scale, e2, x2, shared);
}

// Looks again at those of a warp's blocks for which may_matter(limits) says so: block first + b belongs to the kLanes
// neighbouring lanes that begin with lane b * kLanes; e2 and x2 are its sums. Every block looked at, by any warp, may
// settle others. Reached by all lanes of a warp together. `may_matter` answers for the lane's own block; it is asked
// again after each block, with limits that have risen.
template <std::uint32_t kLanes, typename MayMatter>
__device__ void NoteExtremesWhere(const ErrorStatsArgs& args, std::uint64_t first, double e2, double x2,
                                  StatsShared* shared, const MayMatter& may_matter) {
  const Limits& limits = shared->limits[threadIdx.x / kWarp];
  if (!__any_sync(kAllLanes, may_matter(limits))) return;
  shared->RefreshLimits();
  std::uint32_t lanes = __ballot_sync(kAllLanes, may_matter(limits));
  while (lanes != 0) {
    const auto source = static_cast<std::uint32_t>(__ffs(static_cast<int>(lanes))) - 1, block = source / kLanes;
    NoteExtremes(args, first + block, __shfl_sync(kAllLanes, e2, static_cast<int>(source)),
                 __shfl_sync(kAllLanes, x2, static_cast<int>(source)), shared);
    // This block is done, with all lanes that it has. The mask is shifted twice, because a shift by 32 is undefined.
    lanes &= ~(((1u << (kLanes - 1) << 1) - 1) << (block * kLanes));
    if (lanes == 0) break;
    shared->RefreshLimits();
    lanes &= __ballot_sync(kAllLanes, may_matter(limits));
  }
}

// ---- Tail block

// Block k, the slab's last and partial one, with all lanes of a warp: each of the first 16 is a sum lane.
static __device__ __noinline__ void AddTail(const ErrorStatsArgs& args, std::uint64_t k, StatsShared* shared) {
  const std::uint32_t lane = threadIdx.x % kWarp;
  const float scale = args.scales[k];
  double sums[kSums] = {};
  Extremes found;
  CodeCounts counts;
  if (lane < kSumLanes) {
    for (std::uint64_t i = k * args.block_size + lane; i < args.n; i += kSumLanes) {
      const Element element = ElementAt(args, i, scale);
      const double x = static_cast<double>(element.x), y = static_cast<double>(element.y), e = element.Error();
      sums[0] = __dadd_rn(sums[0], e);
      sums[1] = __dadd_rn(sums[1], fabs(e));
      sums[2] = __dadd_rn(sums[2], __dmul_rn(e, e));
      sums[3] = __dadd_rn(sums[3], __dmul_rn(x, x));
      sums[4] = __dadd_rn(sums[4], __dmul_rn(x, y));
      NoteMaxAbsError(element, i, &found);
      NoteGapRatio(args, element, scale, &found);
      found.overflow += IsInfinite(RoundTo(args.type, element.y));
      // One code and 31 zeros, which do not count.
      counts.Add(make_uint4(UnpackCode(args.codes, i), 0, 0, 0));
    }
  }
  counts.FlushTo(shared->counts);
  for (int s = 0; s < kSums; ++s) {
    // Q7.1's tree: lane j adds lane j + w. Lanes from w on add what nobody reads.
    for (std::uint32_t w = kSumLanes / 2; w >= 1; w /= 2)
      sums[s] = __dadd_rn(sums[s], __shfl_down_sync(kAllLanes, sums[s], w));
    sums[s] = __shfl_sync(kAllLanes, sums[s], 0);
  }
  if (lane == 0) {
    for (int s = 0; s < kSums; ++s) shared->sums[threadIdx.x / kWarp][s][k % kTileBlocks] = sums[s];
  }
  NoteBlock(found, k, scale, sums[2], sums[3], shared);
}

// ---- The end of a thread block

// Adds counts and keeps maxima, with the smallest index among equals (Q7.4). A maximum of 0 has index 0, as in the
// reference.
__device__ inline void MergeInto(const SlabStats& part, SlabStats* all) {
  all->zero_blocks += part.zero_blocks;
  all->tiny_blocks += part.tiny_blocks;
  all->clipped += part.clipped;
  all->overflow += part.overflow;
  for (int code = 0; code < 16; ++code) all->hist[code] += part.hist[code];
  if (part.max_abs_err > all->max_abs_err || (part.max_abs_err == all->max_abs_err && part.max_abs_err > 0 &&
                                              part.max_abs_err_index < all->max_abs_err_index)) {
    all->max_abs_err = part.max_abs_err;
    all->max_abs_err_index = part.max_abs_err_index;
  }
  if (part.max_gap_ratio > all->max_gap_ratio) all->max_gap_ratio = part.max_gap_ratio;
  if (part.worst_block_e2 > all->worst_block_e2 ||
      (part.worst_block_e2 == all->worst_block_e2 && part.worst_block_e2 > 0 && part.worst_block < all->worst_block)) {
    all->worst_block_e2 = part.worst_block_e2;
    all->worst_block = part.worst_block;
  }
}

// By all threads, after a barrier: this thread block's part of the statistics, but for `count` and the count of code 0.
__device__ inline void WritePartial(const StatsShared& shared, SlabStats* partial) {
  if (threadIdx.x >= 1 && threadIdx.x < 16) {
    // Code c: its bits, all of them, and no others. Inclusion and exclusion over the sets that hold them.
    const std::uint32_t code = threadIdx.x;
    std::uint64_t count = 0;
    for (std::uint32_t m = code; m < 16; ++m) {
      if ((m & code) != code) continue;
      std::uint64_t holders = 0;
      for (std::uint32_t lane = 0; lane < kWarp; ++lane) holders += shared.counts[m][lane];
      // Codes with further bits are added as often as they are taken away. Unsigned arithmetic wraps back.
      count += __popc(m ^ code) % 2 == 0 ? holders : 0 - holders;
    }
    partial->hist[code] = count;
  }
  // Another warp than the one that counts codes, so both go on side by side.
  if (threadIdx.x == kWarp) {
    SlabStats all = {};
    for (const WarpExtremes& warp : shared.extremes) {
      MergeInto({.zero_blocks = warp.zero_blocks,
                 .tiny_blocks = warp.tiny_blocks,
                 .clipped = warp.clipped,
                 .overflow = warp.overflow,
                 .max_abs_err = warp.max_abs_err,
                 .max_abs_err_index = warp.max_abs_err_index,
                 .max_gap_ratio = warp.max_gap_ratio,
                 .worst_block_e2 = warp.worst_block_e2,
                 .worst_block = warp.worst_block},
                &all);
    }
    partial->hist[0] = 0;
    partial->zero_blocks = all.zero_blocks;
    partial->tiny_blocks = all.tiny_blocks;
    partial->clipped = all.clipped;
    partial->overflow = all.overflow;
    partial->max_abs_err = all.max_abs_err;
    partial->max_abs_err_index = all.max_abs_err_index;
    partial->max_gap_ratio = all.max_gap_ratio;
    partial->worst_block_e2 = all.worst_block_e2;
    partial->worst_block = all.worst_block;
  }
}

}  // namespace q4::cuda
