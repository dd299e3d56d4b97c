// Error statistics on the device (docs/numerics.md Q7, Q8), alone or in the pass that quantizes. error_stats_scalar.cc with this
// division of work:
//   A group of 256 blocks belongs to one team: a warp or, where groups are large and so few, a thread block. The team takes the
//   group's blocks in order, 8 to a warp at a time, and one of its warps adds the block sums in that order (Q7.3).
//   A warp works on its 8 blocks at once, four lanes to a block. Of Q7.1's 16 sum lanes, a block's lane q owns q, q + 4, q + 8 and
//   q + 12, each in increasing order of the elements. So half of the tree's steps stay inside a lane.
//   Sums are fp64, operation by operation those of the reference.
//   Maxima: fp32 estimates prove for nearly every block that it cannot raise a maximum found so far. Other blocks are looked at
//   again with the reference's operations (NoteExtremes). error_stats_simd.cc does the same and holds the proof for the gap ratio.
#include <cstddef>
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_tables.cuh"
#include "kernels/cuda_vector.cuh"
#include "kernels/error_stats_block.h"
#include "kernels/quantize_cuda.cuh"

namespace q4::cuda {
namespace {

constexpr std::uint32_t kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr std::uint32_t kBlockLanes = 4;  // lanes of a warp that share a block
constexpr std::uint32_t kTileBlocks = kWarp / kBlockLanes;
constexpr std::uint32_t kGroupTiles = kScaleGroup / kTileBlocks;
constexpr std::uint64_t kMaxGrid = 1024;
constexpr int kSums = 5;  // of GroupSums, in its order
static_assert(sizeof(GroupSums) == kSums * sizeof(double));

// A block is read in pieces of at most 128 bytes, a piece in rows of 16 elements: one for each sum lane.
constexpr std::uint32_t kRow = 16;
constexpr std::uint32_t kPieceVectors = 8;

// ---- Tables

// What an element's code decodes to, and the gap filter's factors (see GapRatioEstimate).
struct alignas(16) DecodeEntry {
  float value;
  float above, below;  // the reciprocal half gap above the value; the negated one below it
  float unused;
};

struct StatsTables {
  DecodeEntry entries[16];
  ValueIntervals intervals;
  double largest_half_gap;
};

constexpr StatsTables StatsTablesOf(CodeBook book) {
  StatsTables tables{};
  tables.intervals = IntervalsOf(book);
  const ValueIntervals& intervals = tables.intervals;
  for (int j = 0; j < 15; ++j) {
    if (intervals.HalfGap(j) > tables.largest_half_gap) tables.largest_half_gap = intervals.HalfGap(j);
  }
  const auto& values = book == CodeBook::kNf4 ? kNf4Values : kFp4Values;
  for (std::size_t code = 0; code < 16; ++code) {
    int rank = 0;
    while (intervals.values[rank] != static_cast<double>(values[code])) ++rank;
    // Outside the intervals there is no gap; the largest one keeps MaxErrorBound true there.
    const double above = rank < 15 && intervals.HalfGap(rank) > 0 ? intervals.HalfGap(rank) : tables.largest_half_gap;
    const double below = rank > 0 ? intervals.HalfGap(rank - 1) : tables.largest_half_gap;
    tables.entries[code] = {values[code], static_cast<float>(1.0 / above), static_cast<float>(-1.0 / below), 0.0f};
  }
  return tables;
}

static __constant__ constexpr StatsTables kStatsTables[2] = {StatsTablesOf(CodeBook::kNf4), StatsTablesOf(CodeBook::kFp4)};

// ---- Shared memory

// The order-free statistics of one warp. Only lane 0 changes them.
struct WarpExtremes {
  double max_abs_err, max_gap_ratio, worst_block_e2;
  std::uint64_t max_abs_err_index, worst_block;
  std::uint64_t zero_blocks, tiny_blocks, clipped, overflow;
};

// The bits of the largest values that any warp of the thread block has found; non-negative fp64 compare as integers.
struct RunningMaxima {
  unsigned long long abs_err, gap_ratio, block_e2;

  // What another warp raises meanwhile may or may not be seen: that decides about work, never about results.
  static __device__ double Read(const unsigned long long& bits) {
    return __longlong_as_double(static_cast<long long>(*const_cast<const volatile unsigned long long*>(&bits)));
  }
  static __device__ void Raise(unsigned long long* bits, double value) {
    atomicMax(bits, static_cast<unsigned long long>(__double_as_longlong(value)));
  }
};

// The two tables by code begin at multiples of their size, and a row of either is 128 bytes: so one "and" and one "or" make an
// address from an element's code. A row holds a copy of the entry, or a counter, for each lane that would otherwise meet another one
// in a bank: 8 copies, as 128-bit accesses are served 8 lanes at a time, and 32 counters.
inline constexpr std::uint32_t kCodeRow = 128, kCodeTable = 16 * kCodeRow;

struct CodeTables {
  DecodeEntry decode[16][kCodeRow / sizeof(DecodeEntry)];
  std::uint32_t hist[16][kWarp];
};
static_assert(sizeof(CodeTables::decode) == kCodeTable && sizeof(CodeTables) == 2 * kCodeTable);

struct StatsShared {
  // The tables lie at the first multiple of kCodeTable in here: the toolkit does not honour an alignment above 1024 in shared memory.
  unsigned char table_bytes[3 * kCodeTable];
  double sums[kWarps][kSums][kTileBlocks];               // of the blocks of each warp's tile
  uint4 pieces[kWarps][kTileBlocks][kPieceVectors + 1];  // padded: the 8 lanes of an access meet no bank twice
  WarpExtremes extremes[kWarps];
  RunningMaxima running;

  __device__ CodeTables& Tables() {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(table_bytes));
    return *reinterpret_cast<CodeTables*>(table_bytes + (0u - address) % kCodeTable);
  }
};

// ---- Extremes (the rare path)

// One lane's findings.
struct Extremes {
  double max_abs_err = 0, max_gap_ratio = 0;
  std::uint64_t max_abs_err_index = 0;
  std::uint32_t clipped = 0, overflow = 0;
};

struct Element {
  float x, y;
  __device__ double Error() const { return __dsub_rn(static_cast<double>(x), static_cast<double>(y)); }
};

__device__ Element ElementAt(const ErrorStatsArgs& args, std::uint64_t i, float scale) {
  return {LoadElement(args.type, args.x, i), __fmul_rn(CodeValueOf(args.book, UnpackCode(args.codes, i)), scale)};
}

// Q8.2
__device__ void NoteMaxAbsError(const Element& element, std::uint64_t i, Extremes* found) {
  const double error = fabs(element.Error());
  if (error > found->max_abs_err) {
    found->max_abs_err = error;
    found->max_abs_err_index = i;
  }
}

// Q8.7
__device__ void NoteGapRatio(const ErrorStatsArgs& args, const Element& element, float scale, Extremes* found) {
  if (!(fabsf(scale) >= kTiny)) return;
  const ValueIntervals& intervals = kStatsTables[BookIndex(args.book)].intervals;
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

// Merges what the lanes of a warp found into its WarpExtremes. e2 is S64(e*e) of the lane's block.
__device__ void MergeExtremes(const Extremes& found, std::uint64_t block, double e2, WarpExtremes* all, RunningMaxima* running) {
  double err = found.max_abs_err, gap = found.max_gap_ratio;
  std::uint64_t err_index = found.max_abs_err_index;
  for (std::uint32_t distance = kWarp / 2; distance >= 1; distance /= 2) {
    const double other_err = __shfl_xor_sync(kAllLanes, err, distance);
    const std::uint64_t other_index = __shfl_xor_sync(kAllLanes, err_index, distance);
    if (other_err > err || (other_err == err && other_index < err_index)) err = other_err, err_index = other_index;
    const double other_gap = __shfl_xor_sync(kAllLanes, gap, distance);
    if (other_gap > gap) gap = other_gap;
    const double other_e2 = __shfl_xor_sync(kAllLanes, e2, distance);
    const std::uint64_t other_block = __shfl_xor_sync(kAllLanes, block, distance);
    if (!(e2 == e2) || other_e2 > e2 || (other_e2 == e2 && other_block < block)) e2 = other_e2, block = other_block;
  }
  const std::uint32_t overflow = SumOverWarp(found.overflow);
  const std::uint32_t clipped = SumOverWarp(found.clipped);
  if (threadIdx.x % kWarp == 0) {
    all->overflow += overflow;
    all->clipped += clipped;
    if (err > all->max_abs_err || (err == all->max_abs_err && err > 0 && err_index < all->max_abs_err_index)) {
      all->max_abs_err = err;
      all->max_abs_err_index = err_index;
      RunningMaxima::Raise(&running->abs_err, err);
    }
    if (gap > all->max_gap_ratio) {
      all->max_gap_ratio = gap;
      RunningMaxima::Raise(&running->gap_ratio, gap);
    }
    if (e2 > all->worst_block_e2 || (e2 == all->worst_block_e2 && e2 > 0 && block < all->worst_block)) {
      all->worst_block_e2 = e2;
      all->worst_block = block;
      RunningMaxima::Raise(&running->block_e2, e2);
    }
  }
  __syncwarp();
}

// What the fast path learnt about a lane's part of a block.
struct BlockPart {
  std::uint64_t index;  // of the block
  float scale;
  float ratio;          // largest gap ratio estimate, times the scale
  bool is_active;       // there is such a block
  double e2;            // S64(e*e) of the block
};

// No error of the part exceeds this. A ratio estimate is fl(fl(e) * fl(1 / h)) with some half gap h: each rounding loses at most
// 2^-24 of the result, or 2^-150 of a subnormal one.
__device__ double MaxErrorBound(float ratio, double largest_half_gap) {
  return (static_cast<double>(ratio) + 0x1p-149) * (largest_half_gap * (1 + 0x1p-20));
}

__device__ bool MayRaiseMaxAbsError(const BlockPart& part, double largest_half_gap, double max_abs_err) {
  return part.ratio != 0 && !(MaxErrorBound(part.ratio, largest_half_gap) < max_abs_err);
}

// See the function of this name in error_stats_simd.cc. Outside the intervals this estimate is positive where that one is 0, so it is
// true at least as often.
__device__ bool MayRaiseGapRatio(const BlockPart& part, double max_gap_ratio) {
  if (!(part.scale >= 0x1p-100f && max_gap_ratio >= 0x1p-10)) return part.ratio != 0;
  const double limit = (max_gap_ratio < 1.99 ? max_gap_ratio : 1.99) * static_cast<double>(part.scale);
  return !(static_cast<double>(part.ratio) * (1 + 0x1p-20) <= limit);
}

// Whether a decoded element can round to infinity: no |code value| exceeds 1.
__device__ bool MayOverflow(FloatType type, float scale) { return !IsFinite(RoundTo(type, scale)); }

// Looks again at those blocks of a tile that may matter, one after another with all lanes of the warp.
__device__ __noinline__ void NoteExtremes(const ErrorStatsArgs& args, const BlockPart& part, StatsShared* shared) {
  const std::uint32_t lane = threadIdx.x % kWarp;
  const double max_abs_err = RunningMaxima::Read(shared->running.abs_err);
  const double max_gap_ratio = RunningMaxima::Read(shared->running.gap_ratio);
  const bool may_matter =
      part.is_active && (MayRaiseMaxAbsError(part, kStatsTables[BookIndex(args.book)].largest_half_gap, max_abs_err) ||
                         MayRaiseGapRatio(part, max_gap_ratio) || MayOverflow(args.type, part.scale));
  Extremes found;
  for (std::uint32_t lanes = __ballot_sync(kAllLanes, may_matter); lanes != 0;) {
    const int source = __ffs(static_cast<int>(lanes)) - 1;
    lanes &= ~(((1u << kBlockLanes) - 1) << (source / kBlockLanes * kBlockLanes));  // the other lanes of that block
    const std::uint64_t begin = __shfl_sync(kAllLanes, part.index, source) * args.block_size;
    const float scale = __shfl_sync(kAllLanes, part.scale, source);
    for (std::uint64_t i = begin + lane; i < begin + args.block_size; i += kWarp) {
      const Element element = ElementAt(args, i, scale);
      NoteMaxAbsError(element, i, &found);
      NoteGapRatio(args, element, scale, &found);
      found.overflow += IsInfinite(RoundTo(args.type, element.y));
    }
  }
  found.clipped = 0;  // the fast path counts these
  MergeExtremes(found, part.index, part.is_active ? part.e2 : 0, &shared->extremes[threadIdx.x / kWarp], &shared->running);
}

// ---- Sums of a tile (the fast path)

// The elements q, q + 4, q + 8 and q + 12 of a row, as fp32.
template <FloatType kType>
__device__ void LoadRow(const uint4* row, std::uint32_t q, float x[4]) {
  const auto* words = reinterpret_cast<const std::uint32_t*>(row);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if constexpr (kType == FloatType::kF32) {
      x[j] = FloatOf(words[4 * j + q]);
    } else if constexpr (kType == FloatType::kBF16) {
      x[j] = FloatOf(__byte_perm(words[2 * j + q / 2], 0, q % 2 == 0 ? 0x1044 : 0x3244));
    } else {
      x[j] = WidenLow<kType>(__byte_perm(words[2 * j + q / 2], 0, q % 2 == 0 ? 0x4410 : 0x4432));
    }
  }
}

// One lane's part of a block.
class PartSums {
 public:
  __device__ PartSums(float scale, StatsShared* shared) : scale_(scale) {
    const std::uint32_t lane = threadIdx.x % kWarp;
    CodeTables& tables = shared->Tables();
    decode_ = static_cast<std::uint32_t>(__cvta_generic_to_shared(&tables.decode[0][lane % (kCodeRow / sizeof(DecodeEntry))]));
    hist_ = static_cast<std::uint32_t>(__cvta_generic_to_shared(&tables.hist[0][lane]));
    // Q8.7: with |scale| below TINY, and with a NaN, nothing counts as clipped.
    clip_limit_ = fabsf(scale) >= kTiny ? fabsf(scale) : FloatOf(kF32Infinity);
  }

  // Adds element x to the lane's sum lane j of four. Its code is in the bits of `code_row` that kCodeRow counts.
  template <bool kMayClip>
  __device__ void Add(int j, float x, std::uint32_t code_row, std::uint32_t one) {
    const std::uint32_t offset = code_row & (15 * kCodeRow);
    float value, above, below, unused;
    asm("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(value), "=f"(above), "=f"(below), "=f"(unused) : "r"(decode_ | offset));
    // Not an increment by a constant 1: that instruction serves one address after another.
    asm volatile("red.shared.add.u32 [%0], %1;" : : "r"(hist_ | offset), "r"(one) : "memory");
    const float y = __fmul_rn(value, scale_);
    const double x64 = static_cast<double>(x), y64 = static_cast<double>(y);
    const double e = __dsub_rn(x64, y64);
    e_[j] = __dadd_rn(e_[j], e);
    abs_e_[j] = __dadd_rn(abs_e_[j], fabs(e));
    e2_[j] = __dadd_rn(e2_[j], __dmul_rn(e, e));
    x2_[j] = __dadd_rn(x2_[j], __dmul_rn(x64, x64));
    xy_[j] = __dadd_rn(xy_[j], __dmul_rn(x64, y64));
    // The gap ratio estimate, times the scale: |e| over the half gap on the side of the value that the sign of e tells. One product is
    // that, the other is not positive. As integers, the larger of non-negative floats is the larger, and negative ones lose.
    const float e32 = __fsub_rn(x, y);
    ratio_bits_ = __vimax3_s32(ratio_bits_, __float_as_int(__fmul_rn(e32, above)), __float_as_int(__fmul_rn(e32, below)));
    if constexpr (kMayClip) {
      asm("{.reg .pred p; setp.gt.f32 p, %1, %2; @p add.u32 %0, %0, 1;}" : "+r"(clipped_) : "f"(fabsf(x)), "f"(clip_limit_));
    }
  }

  // Q7.1's tree: the sums of the whole block, in all of its lanes.
  __device__ void Fold(double sums[kSums]) {
    double* const lanes[kSums] = {e_, abs_e_, e2_, x2_, xy_};
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      const double low = __dadd_rn(lanes[s][0], lanes[s][2]), high = __dadd_rn(lanes[s][1], lanes[s][3]);  // w = 8
      sums[s] = __dadd_rn(low, high);                                                                      // w = 4
#pragma unroll
      for (int w = 2; w >= 1; w /= 2) sums[s] = __dadd_rn(sums[s], __shfl_xor_sync(kAllLanes, sums[s], w));
    }
  }

  __device__ float ratio() const { return __int_as_float(ratio_bits_); }
  __device__ std::uint32_t clipped() const { return clipped_; }

 private:
  double e_[4] = {}, abs_e_[4] = {}, e2_[4] = {}, x2_[4] = {}, xy_[4] = {};
  std::uint32_t decode_, hist_;  // addresses in shared memory
  float scale_, clip_limit_;
  int ratio_bits_ = 0;
  std::uint32_t clipped_ = 0;
};

// Blocks [first, first + count) of a tile, count <= kTileBlocks, all full. Their sums go to the warp's part of shared->sums. Returns how many elements of the lane were clipped.
template <FloatType kType, std::uint32_t kPieceRows, bool kMayClip>
__device__ std::uint32_t AddTile(const ErrorStatsArgs& args, std::uint64_t first, std::uint32_t count, std::uint32_t one,
                                 StatsShared* shared) {
  constexpr std::uint32_t kPiece = kPieceRows * kRow;  // elements
  constexpr std::uint32_t kRowVectors = kRow * kElementBytes<kType> / 16;
  constexpr std::uint32_t kVectors = kPieceRows * kRowVectors;
  static_assert(kVectors <= kPieceVectors);
  const std::uint32_t lane = threadIdx.x % kWarp, own = lane / kBlockLanes, q = lane % kBlockLanes;
  uint4(*pieces)[kPieceVectors + 1] = shared->pieces[threadIdx.x / kWarp];
  const bool is_active = own < count;
  BlockPart part{first + own, is_active ? args.scales[first + own] : 0.0f, 0, is_active, 0};
  PartSums sums(part.scale, shared);

  const auto* x = static_cast<const unsigned char*>(args.x);
  for (std::uint32_t at = 0; at < args.block_size; at += kPiece) {
    // Missing blocks are zeros with code 0: they add nothing, but for the count of code 0, which is derived in the end.
    uint2 codes[kPieceRows];
#pragma unroll
    for (std::uint32_t row = 0; row < kPieceRows; ++row) {
      const std::uint64_t i = (first + own) * args.block_size + at + row * kRow;
      codes[row] = is_active ? *reinterpret_cast<const uint2*>(args.codes + i / 2) : uint2{};
    }
    __syncwarp();
#pragma unroll
    for (std::uint32_t j = 0; j < kVectors * kTileBlocks / kWarp; ++j) {
      const std::uint32_t b = (j * kWarp + lane) / kVectors, v = (j * kWarp + lane) % kVectors;
      const std::uint64_t i = (first + b) * args.block_size + at;
      pieces[b][v] = b < count ? LoadVector(x + i * kElementBytes<kType> + v * 16) : uint4{};
    }
    __syncwarp();
#pragma unroll
    for (std::uint32_t row = 0; row < kPieceRows; ++row) {
      float elements[4];
      LoadRow<kType>(&pieces[own][row * kRowVectors], q, elements);
      // Byte b holds the codes of elements 2b (high nibble) and 2b + 1 of a row: the lane's are in bytes q / 2, q / 2 + 2, ...
      const std::uint32_t shift = q / 2 * 8 + (q % 2 == 0 ? 4 : 0);
      const std::uint32_t low = codes[row].x >> shift, high = codes[row].y >> shift;
      static_assert(kCodeRow == 1 << 7);
      sums.template Add<kMayClip>(0, elements[0], low << 7, one);
      sums.template Add<kMayClip>(1, elements[1], low >> (16 - 7), one);
      sums.template Add<kMayClip>(2, elements[2], high << 7, one);
      sums.template Add<kMayClip>(3, elements[3], high >> (16 - 7), one);
    }
  }

  double folded[kSums];
  sums.Fold(folded);
  if (is_active && q == 0) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) shared->sums[threadIdx.x / kWarp][s][own] = folded[s];
  }
  part.ratio = sums.ratio();
  part.e2 = folded[2];
  const bool is_zero = folded[3] == 0;
  const std::uint32_t zero = __ballot_sync(kAllLanes, is_active && q == 0 && is_zero);
  const std::uint32_t tiny = __ballot_sync(kAllLanes, is_active && q == 0 && !is_zero && fabsf(part.scale) < kTiny);
  if (lane == 0 && (zero | tiny) != 0) {
    shared->extremes[threadIdx.x / kWarp].zero_blocks += __popc(zero);
    shared->extremes[threadIdx.x / kWarp].tiny_blocks += __popc(tiny);
  }
  const bool may_matter =
      part.is_active &&
      ((part.e2 > 0 && part.e2 >= RunningMaxima::Read(shared->running.block_e2)) || MayOverflow(kType, part.scale) ||
       MayRaiseGapRatio(part, RunningMaxima::Read(shared->running.gap_ratio)) ||
       MayRaiseMaxAbsError(part, kStatsTables[BookIndex(args.book)].largest_half_gap, RunningMaxima::Read(shared->running.abs_err)));
  if (__any_sync(kAllLanes, may_matter)) NoteExtremes(args, part, shared);
  return sums.clipped();
}

// The tail block, with all lanes of a warp: each of the first 16 is a sum lane.
__device__ __noinline__ void AddTail(const ErrorStatsArgs& args, std::uint64_t k, StatsShared* shared) {
  const std::uint32_t lane = threadIdx.x % kWarp;
  const float scale = args.scales[k];
  double sums[kSums] = {};
  Extremes found;
  if (lane < kRow) {
    for (std::uint64_t i = k * args.block_size + lane; i < args.n; i += kRow) {
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
      atomicAdd(&shared->Tables().hist[UnpackCode(args.codes, i)][lane], 1u);
    }
  }
  for (int s = 0; s < kSums; ++s) {
    for (std::uint32_t w = kRow / 2; w >= 1; w /= 2) sums[s] = __dadd_rn(sums[s], __shfl_down_sync(kAllLanes, sums[s], w));
    sums[s] = __shfl_sync(kAllLanes, sums[s], 0);
  }
  WarpExtremes* all = &shared->extremes[threadIdx.x / kWarp];
  if (lane == 0) {
    for (int s = 0; s < kSums; ++s) shared->sums[threadIdx.x / kWarp][s][k % kTileBlocks] = sums[s];
    all->zero_blocks += sums[3] == 0;
    all->tiny_blocks += sums[3] != 0 && fabsf(scale) < kTiny;
  }
  MergeExtremes(found, k, sums[2], all, &shared->running);
}

// ---- Groups and thread blocks

__device__ void MergeInto(const SlabStats& part, SlabStats* all) {
  all->zero_blocks += part.zero_blocks;
  all->tiny_blocks += part.tiny_blocks;
  all->clipped += part.clipped;
  all->overflow += part.overflow;
  for (int code = 0; code < 16; ++code) all->hist[code] += part.hist[code];
  if (part.max_abs_err > all->max_abs_err ||
      (part.max_abs_err == all->max_abs_err && part.max_abs_err > 0 && part.max_abs_err_index < all->max_abs_err_index)) {
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

// By all threads, after a barrier: this thread block's part of the statistics.
__device__ void WritePartial(StatsShared& shared, SlabStats* partial) {
  if (threadIdx.x < 16) {
    std::uint64_t count = 0;
    for (std::uint32_t lane = 0; lane < kWarp; ++lane) count += shared.Tables().hist[threadIdx.x][lane];
    partial->hist[threadIdx.x] = count;
  }
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

// What is done to a tile before its statistics are taken. Alone: nothing.
struct AlreadyQuantized {
  static constexpr bool kMayClip = true;
  __device__ void Prepare(CodeBook) {}
  __device__ void Tile(const QuantizeArgs&, std::uint64_t, std::uint64_t) const {}
  __device__ void Tail(const QuantizeArgs&) const {}
};

template <FloatType kType, std::uint32_t kBlockSize>
struct QuantizeFirst {
  static constexpr bool kMayClip = false;  // the scale is the largest magnitude, or larger
  SharedCodeCells cells;

  __device__ void Prepare(CodeBook book) { cells.Fill(book); }
  __device__ void Tile(const QuantizeArgs& args, std::uint64_t first, std::uint64_t full_end) const {
    using Shape = QuantizeShape<kType, kBlockSize, kTileBlocks * kBlockSize / (kWarp * kVectorSize<kType>)>;
    const std::uint64_t begin = first * kBlockSize, end = ::min(begin + kTileBlocks * kBlockSize, full_end);
    for (std::uint64_t i = begin; i < end; i += Shape::kTile) {
      QuantizeTile<Shape, true>(args, i, end, cells.ColumnOf(threadIdx.x % kWarp));
    }
  }
  __device__ void Tail(const QuantizeArgs& args) const { QuantizeTail<true>(args, cells.ColumnOf(threadIdx.x % kWarp)); }
};

// A team of warps, all of one thread block.
template <std::uint32_t kTeamWarps>
__device__ void SyncTeam() {
  static_assert(kTeamWarps == 1 || kTeamWarps == kWarps);
  if constexpr (kTeamWarps == 1) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

template <FloatType kType, std::uint32_t kPieceRows, std::uint32_t kTeamWarps, typename Before>
__global__ void __launch_bounds__(kThreads, 3)
    ErrorStatsKernel(const ErrorStatsArgs args, const QuantizeArgs quantize_args, std::uint32_t one, SlabStats* partials) {
  __shared__ StatsShared shared;
  __shared__ Before before;
  CodeTables& tables = shared.Tables();
  for (std::uint32_t i = threadIdx.x; i < 16 * kWarp; i += kThreads) tables.hist[i / kWarp][i % kWarp] = 0;
  constexpr std::uint32_t kCopies = kCodeRow / sizeof(DecodeEntry);
  for (std::uint32_t i = threadIdx.x; i < 16 * kCopies; i += kThreads) {
    tables.decode[i / kCopies][i % kCopies] = kStatsTables[BookIndex(args.book)].entries[i / kCopies];
  }
  if (threadIdx.x < kWarps) shared.extremes[threadIdx.x] = {};
  if (threadIdx.x == 0) shared.running = {0, 0, 0};
  before.Prepare(args.book);
  __syncthreads();

  const std::uint64_t blocks = BlockCount(args.n, args.block_size), full_blocks = args.n / args.block_size;
  const std::uint64_t groups = GroupCount(blocks);
  const std::uint32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, rank = warp % kTeamWarps;
  constexpr std::uint32_t kTeams = kWarps / kTeamWarps;  // per thread block
  std::uint32_t clipped = 0;
  for (std::uint64_t group = std::uint64_t{blockIdx.x} * kTeams + warp / kTeamWarps; group < groups; group += gridDim.x * kTeams) {
    double group_sum = 0;  // lane s of the team's first warp holds sum s
#pragma unroll 1
    for (std::uint32_t tile = 0; tile < kGroupTiles; tile += kTeamWarps) {
      const std::uint64_t team_first = group * kScaleGroup + tile * kTileBlocks, first = team_first + rank * kTileBlocks;
      if (first < full_blocks) {
        const auto count = static_cast<std::uint32_t>(::min(full_blocks - first, std::uint64_t{kTileBlocks}));
        before.Tile(quantize_args, first, full_blocks * args.block_size);
        __syncwarp();  // its codes and scales are read by other lanes
        clipped += AddTile<kType, kPieceRows, Before::kMayClip>(args, first, count, one, &shared);
      }
      if (full_blocks < blocks && full_blocks >= first && full_blocks < first + kTileBlocks) {
        before.Tail(quantize_args);
        __syncwarp();
        AddTail(args, full_blocks, &shared);
      }
      SyncTeam<kTeamWarps>();
      if (rank == 0 && lane < kSums && team_first < blocks) {  // Q7.3
        const auto size = static_cast<std::uint32_t>(::min(blocks - team_first, std::uint64_t{kTeamWarps * kTileBlocks}));
#pragma unroll 8
        for (std::uint32_t k = 0; k < size; ++k) {
          group_sum = __dadd_rn(group_sum, shared.sums[warp + k / kTileBlocks][lane][k % kTileBlocks]);
        }
      }
      SyncTeam<kTeamWarps>();
    }
    if (rank == 0 && lane < kSums) reinterpret_cast<double*>(args.groups + group)[lane] = CanonicalNan(group_sum);
  }

  clipped = SumOverWarp(clipped);
  if (lane == 0) shared.extremes[warp].clipped += clipped;
  __syncthreads();
  WritePartial(shared, &partials[blockIdx.x]);
}

constexpr int kMergeThreads = 128;

__global__ void __launch_bounds__(kMergeThreads) MergePartialsKernel(const SlabStats* partials, std::uint32_t count, std::uint64_t n,
                                                                     SlabStats* stats) {
  __shared__ SlabStats parts[kMergeThreads];
  SlabStats all = {};
  for (std::uint32_t i = threadIdx.x; i < count; i += kMergeThreads) MergeInto(partials[i], &all);
  parts[threadIdx.x] = all;
  for (std::uint32_t width = kMergeThreads / 2; width >= 1; width /= 2) {
    __syncthreads();
    if (threadIdx.x < width) MergeInto(parts[threadIdx.x + width], &parts[threadIdx.x]);
  }
  if (threadIdx.x == 0) {
    all = parts[0];
    all.count = n;
    // Missing blocks of the last tile were counted as code 0.
    all.hist[0] = n;
    for (int code = 1; code < 16; ++code) all.hist[0] -= all.hist[code];
    *stats = all;
  }
}

template <FloatType kType, std::uint32_t kPieceRows, std::uint32_t kTeamWarps, typename Before>
KernelError LaunchErrorStatsOf(const ErrorStatsArgs& args, const QuantizeArgs& quantize_args, StreamHandle stream) {
  const auto kernel = ErrorStatsKernel<kType, kPieceRows, kTeamWarps, Before>;
  const std::uint64_t groups = GroupCount(BlockCount(args.n, args.block_size));
  const std::uint64_t thread_blocks = groups * kTeamWarps / kWarps + (groups * kTeamWarps % kWarps != 0);
  unsigned grid = 0;
  if (KernelError error = ResidentGrid(kernel, kThreads, ::min(thread_blocks, kMaxGrid), &grid); !error.ok()) return error;
  auto* partials = static_cast<SlabStats*>(args.workspace);
  if (grid > 0) kernel<<<grid, kThreads, 0, RawStream(stream)>>>(args, quantize_args, 1, partials);
  if (KernelError error = CheckLaunch("error statistics"); !error.ok()) return error;
  MergePartialsKernel<<<1, kMergeThreads, 0, RawStream(stream)>>>(partials, grid, args.n, args.stats);
  return CheckLaunch("merge the error statistics");
}

template <FloatType kType, std::uint32_t kPieceRows, typename Before>
KernelError LaunchErrorStats(const ErrorStatsArgs& args, const QuantizeArgs& quantize_args, StreamHandle stream) {
  if (args.block_size <= 256) return LaunchErrorStatsOf<kType, kPieceRows, 1, Before>(args, quantize_args, stream);
  return LaunchErrorStatsOf<kType, kPieceRows, kWarps, Before>(args, quantize_args, stream);
}

KernelError CheckStatsArgs(const ErrorStatsArgs& args) {
  if (!IsBlockSize(args.block_size)) return BadArgument("block size");
  if (!IsAligned16(args.x) || !IsAligned16(args.codes) || !IsAligned16(args.scales) || !IsAligned16(args.workspace)) {
    return BadArgument("misaligned pointer");
  }
  return {};
}

template <FloatType kType>
KernelError ErrorStatsOf(const ErrorStatsArgs& args, StreamHandle stream) {
  if constexpr (kType != FloatType::kF32) {
    if (args.block_size >= 64) return LaunchErrorStats<kType, 4, AlreadyQuantized>(args, {}, stream);
  }
  return LaunchErrorStats<kType, 2, AlreadyQuantized>(args, {}, stream);
}

}  // namespace

std::uint64_t ErrorStatsWorkspace() { return kMaxGrid * sizeof(SlabStats); }

KernelError ErrorStats(const ErrorStatsArgs& args, StreamHandle stream) {
  if (KernelError error = CheckStatsArgs(args); !error.ok()) return error;
  if (args.type == FloatType::kF32) return ErrorStatsOf<FloatType::kF32>(args, stream);
  if (args.type == FloatType::kF16) return ErrorStatsOf<FloatType::kF16>(args, stream);
  return ErrorStatsOf<FloatType::kBF16>(args, stream);
}

KernelError QuantizeWithStats(const QuantizeWithStatsArgs& args, StreamHandle stream) {
  const QuantizeArgs& quantize = args.quantize;
  if (KernelError error = CheckQuantizeArgs(quantize); !error.ok()) return error;
  if (quantize.codes == nullptr) return BadArgument("statistics need the codes");
  const ErrorStatsArgs stats = {quantize.type, quantize.book,       quantize.x,  quantize.codes, quantize.scales,
                                quantize.n,    quantize.block_size, args.groups, args.stats,     args.workspace};
  if (KernelError error = CheckStatsArgs(stats); !error.ok()) return error;
  const cudaError_t cleared = cudaMemsetAsync(quantize.first_bad, 0xFF, sizeof(*quantize.first_bad), RawStream(stream));
  if (cleared != cudaSuccess) return Check(cleared, "clear the first bad index");
  return ForShape(quantize.type, quantize.block_size, [&]<FloatType kType, std::uint32_t kBlockSize>() {
    constexpr std::uint32_t kPieceRows = kType == FloatType::kF32 || kBlockSize < 64 ? 2 : 4;
    return LaunchErrorStats<kType, kPieceRows, QuantizeFirst<kType, kBlockSize>>(stats, quantize, stream);
  });
}

}  // namespace q4::cuda
