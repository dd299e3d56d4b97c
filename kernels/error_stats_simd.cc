// error_stats_scalar.cc, vectorised (docs/numerics.md Q7, Q8). Each block is taken in pieces of up to 256 elements:
//   1. fp32: x and y into small buffers, y by table; largest |x|, largest |e| and largest gap ratio, the last two
//   approximate;
//   2. fp64: the five sums, in the 16 lanes of Q7.1.
// Sums repeat the reference, operation by operation. Maxima are not taken from the approximations: those only prove,
// for nearly every block, that the block cannot raise the maximum so far. The other blocks go through the reference
// functions.
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/error_stats_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/error_stats_block.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

// The part that does not depend on the target.
#ifndef Q4_KERNELS_ERROR_STATS_SIMD_ONCE_
#define Q4_KERNELS_ERROR_STATS_SIMD_ONCE_
namespace q4 {
namespace {

constexpr std::uint32_t kPiece = 256;  // elements
constexpr std::size_t kSumLanes = 16;  // Q7.1

// What the gap filter looks up, as fp32.
struct GapTables {
  alignas(16) std::uint8_t rank[16];       // the interval above a code's value; the one below has the number before
  alignas(64) float inverse_half_gap[16];  // by interval; 0 for those outside: above the last value, and -1 modulo 16
};

constexpr GapTables GapTablesOf(CodeBook book) {
  const ValueIntervals intervals = IntervalsOf(book);
  const auto& values = book == CodeBook::kNf4 ? kNf4Values : kFp4Values;
  GapTables tables{};
  for (std::size_t code = 0; code < 16; ++code) {
    int rank = 0;
    while (intervals.values[rank] != static_cast<double>(values[code])) ++rank;
    tables.rank[code] = static_cast<std::uint8_t>(rank);
  }
  for (int j = 0; j < 15; ++j) {
    const double half_gap = intervals.HalfGap(j);
    if (half_gap != 0) tables.inverse_half_gap[j] = static_cast<float>(1.0 / half_gap);
  }
  return tables;
}

constexpr GapTables kNf4Gaps = GapTablesOf(CodeBook::kNf4), kFp4Gaps = GapTablesOf(CodeBook::kFp4);

// Code counts, a packed byte at a time. Four histograms, so that equal neighbours do not wait for each other's stores.
class ByteHistogram {
 public:
  void Add(const std::uint8_t* packed, std::uint64_t bytes) {
    std::uint64_t i = 0;
    for (; i + 4 <= bytes; i += 4) {
      ++counts_[0][packed[i]];
      ++counts_[1][packed[i + 1]];
      ++counts_[2][packed[i + 2]];
      ++counts_[3][packed[i + 3]];
    }
    for (; i < bytes; ++i) ++counts_[0][packed[i]];
  }

  void FoldInto(std::uint64_t hist[16]) const {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint64_t count = counts_[0][byte] + counts_[1][byte] + counts_[2][byte] + counts_[3][byte];
      hist[byte >> 4] += count;
      hist[byte & 15] += count;
    }
  }

 private:
  std::uint64_t counts_[4][256] = {};
};

constexpr double kLargestFloat = std::numeric_limits<float>::max();

// Errors in fp32, fl(x - y), up to this one belong to errors that do not exceed the maximum so far. Rounding is
// monotonic and moves a normal result by at most 2^-24 of itself; a subnormal difference of two floats is exact. fp32
// overflow exceeds every limit.
inline float ErrorLimit(const SlabStats& stats) {
  return static_cast<float>(std::fmin(stats.max_abs_err * (1 - 0x1p-22), kLargestFloat));
}

// The gap filter: if ratio~ = fl(|fl(x - y)| * fl(1/h)) is at most the limit for all elements of a block, then none has
// a gap ratio (Q8.7) above the maximum M so far. h is half the interval next to the code's value v on the side that the
// sign of x - y tells.
// - fl(x - y), fl(1/h) and the product each err by at most 2^-24, the limit likewise, and the reference by a few 2^-53:
// 1 - 2^-19
//   covers all of them. A product that underflows errs by 2^-150, far less than 2^-20 of the limit, which is at least
//   2^-111.
// - ratio~ < 1.99 s means that x lies less than 0.995 intervals from y on that side. y differs from v * s by at most
// 2^-24 |v s|,
//   less than 0.001 of any interval. So u = x / s is in that interval and h is right; or x lies between y and v * s,
//   which makes the true ratio smaller than 2^-24 / 0.0026, below 2^-10 <= M.
// - Next to the outermost values there is no interval: 1/h is 0. Such elements are the clipped ones, as y = -s and y =
// s are exact.
inline bool GapFilterApplies(float scale, const SlabStats& stats) {
  return scale >= 0x1p-100f && stats.max_gap_ratio >= 0x1p-10;
}
inline float GapLimit(float scale, const SlabStats& stats) {
  const double limit = std::fmin(stats.max_gap_ratio, 1.99) * static_cast<double>(scale) * (1 - 0x1p-19);
  return static_cast<float>(std::fmin(limit, kLargestFloat));
}

// Whether a decoded element can round to infinity: no |code value| exceeds 1.
inline bool MayOverflow(FloatType type, float scale) { return !IsFinite(RoundTo(type, scale)); }

}  // namespace
}  // namespace q4
#endif  // Q4_KERNELS_ERROR_STATS_SIMD_ONCE_

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

using F64Tag = hn::CappedTag<double, 4>;
using F64Vec = hn::Vec<F64Tag>;
inline constexpr std::size_t kWideLanes = hn::MaxLanes(F64Tag());

// table[index] for 16 entries and indices below 16.
HWY_INLINE F32Vec Lookup16(const float* table, U32Vec index) {
  const F32Tag d;
  const U32Tag du;
  const I32Tag di;
  if constexpr (kLanes == 8) {
    const auto within = hn::IndicesFromVec(d, hn::And(index, hn::Set(du, 7)));
    const F32Vec low = hn::TableLookupLanes(hn::Load(d, table), within);
    const F32Vec high = hn::TableLookupLanes(hn::Load(d, table + 8), within);
    const auto is_high = hn::Gt(hn::BitCast(di, index), hn::Set(di, 7));
    return hn::IfThenElse(hn::RebindMask(d, is_high), high, low);
  } else {
    return hn::GatherIndex(d, table, hn::BitCast(di, index));
  }
}

HWY_INLINE U32Vec LoadBytes(const std::uint8_t* p) {
  return hn::PromoteTo(U32Tag(), hn::LoadU(hn::Rebind<std::uint8_t, U32Tag>(), p));
}

// The buffers of one piece.
struct Piece {
  alignas(64) float x[kPiece];
  alignas(64) float y[kPiece];
};

// The 16 lanes of the five sums of one block. The first piece sets them, the others add.
struct SumLanes {
  alignas(64) double e[kSumLanes];
  alignas(64) double abs_e[kSumLanes];
  alignas(64) double e2[kSumLanes];
  alignas(64) double x2[kSumLanes];
  alignas(64) double xy[kSumLanes];
};

// The fp32 pass over whole pieces of a block: fills `piece` and raises the maxima.
template <FloatType kType, CodeBook kBook>
class FloatPass {
 public:
  explicit HWY_INLINE FloatPass(float scale) : scale_bits_(hn::Set(U32Tag(), q4::MagnitudeBits(scale))) {
    const float* values = kBook == CodeBook::kNf4 ? kNf4Values.data() : kFp4Values.data();
    for (std::size_t code = 0; code < 16; code += kLanes) {
      hn::Store(DecodeVector(values + code, scale), F32Tag(), outputs_ + code);
    }
    max_x_ = max_error_ = max_ratio_ = clipped_ = hn::Zero(U32Tag());
  }

  HWY_INLINE void Run(const std::uint8_t* x, const std::uint8_t* packed, std::uint32_t size, Piece& piece) {
    const Bytes16Tag d8;
    alignas(16) std::uint8_t codes[32], ranks[32];
    for (std::uint32_t i = 0; i < size; i += 32) {
      Bytes16 first, second;
      UnpackCodes(hn::LoadU(d8, packed + i / 2), first, second);
      hn::Store(first, d8, codes);
      hn::Store(second, d8, codes + 16);
      if constexpr (kBook == CodeBook::kFp4) {
        const Bytes16 rank = hn::Load(d8, kGaps.rank);
        hn::Store(hn::TableLookupBytes(rank, first), d8, ranks);
        hn::Store(hn::TableLookupBytes(rank, second), d8, ranks + 16);
      }
      const std::uint8_t* gap_ranks = kBook == CodeBook::kNf4 ? codes : ranks;
      for (std::uint32_t j = 0; j < 32; j += kLanes) {
        RunVector(LoadElements<kType>(x + (i + j) * FloatSize(kType)), LoadBytes(codes + j), LoadBytes(gap_ranks + j),
                  piece.x + i + j, piece.y + i + j);
      }
    }
  }

  HWY_INLINE bool AllZero() const { return !AnyAbove(max_x_, 0); }
  HWY_INLINE bool AnyErrorAbove(float limit) const { return AnyAbove(max_error_, BitsOf(limit)); }
  HWY_INLINE bool AnyRatioAbove(float limit) const { return AnyAbove(max_ratio_, BitsOf(limit)); }

  // Elements with |x| > |scale|; an infinite or NaN scale has none.
  HWY_INLINE std::uint64_t Clipped() const { return hn::GetLane(hn::SumOfLanes(U32Tag(), clipped_)); }

 private:
  static constexpr const GapTables& kGaps = kBook == CodeBook::kNf4 ? kNf4Gaps : kFp4Gaps;

  static HWY_INLINE bool AnyAbove(U32Vec magnitudes, std::uint32_t limit) {
    return !hn::AllFalse(U32Tag(), MagnitudeAbove(magnitudes, limit));
  }

  HWY_INLINE void RunVector(F32Vec x, U32Vec code, U32Vec rank, float* x_out, float* y_out) {
    const F32Tag d;
    const U32Tag du;
    const F32Vec y = Lookup16(outputs_, code);
    hn::Store(x, d, x_out);
    hn::Store(y, d, y_out);

    const U32Vec x_bits = MagnitudeBits(x);
    max_x_ = hn::Max(max_x_, x_bits);
    const I32Tag di;
    const auto is_clipped = hn::Gt(hn::BitCast(di, x_bits), hn::BitCast(di, scale_bits_));
    clipped_ = hn::Sub(clipped_, hn::BitCast(du, hn::VecFromMask(di, is_clipped)));

    const F32Vec e = hn::Sub(x, y);
    const U32Vec e_bits = MagnitudeBits(e);
    max_error_ = hn::Max(max_error_, e_bits);

    const U32Vec negative = hn::ShiftRight<31>(hn::BitCast(du, e));
    const U32Vec interval = hn::And(hn::Sub(rank, negative), hn::Set(du, 15));
    const F32Vec ratio = hn::Mul(hn::BitCast(d, e_bits), Lookup16(kGaps.inverse_half_gap, interval));
    max_ratio_ = hn::Max(max_ratio_, MagnitudeBits(ratio));
  }

  alignas(64) float outputs_[16];
  U32Vec scale_bits_, max_x_, max_error_, max_ratio_, clipped_;
};

// Q8.3 and Q7.1: adds a piece to the lanes. kWideLanes lanes of all five sums at a time, as all 16 would not fit the
// registers.
HWY_INLINE void AddPiece(const Piece& piece, std::uint32_t size, bool is_first, SumLanes& lanes) {
  const F64Tag d;
  const hn::Rebind<float, F64Tag> d32;
  for (std::size_t lane = 0; lane < kSumLanes; lane += kWideLanes) {
    F64Vec sum_e = hn::Zero(d), sum_abs = sum_e, sum_e2 = sum_e, sum_x2 = sum_e, sum_xy = sum_e;
    if (!is_first) {
      sum_e = hn::Load(d, lanes.e + lane);
      sum_abs = hn::Load(d, lanes.abs_e + lane);
      sum_e2 = hn::Load(d, lanes.e2 + lane);
      sum_x2 = hn::Load(d, lanes.x2 + lane);
      sum_xy = hn::Load(d, lanes.xy + lane);
    }
    for (std::size_t i = lane; i < size; i += kSumLanes) {
      const F64Vec x = hn::PromoteTo(d, hn::Load(d32, piece.x + i));
      const F64Vec y = hn::PromoteTo(d, hn::Load(d32, piece.y + i));
      const F64Vec e = hn::Sub(x, y);
      sum_e = hn::Add(sum_e, e);
      sum_abs = hn::Add(sum_abs, hn::Abs(e));
      sum_e2 = hn::Add(sum_e2, hn::Mul(e, e));
      sum_x2 = hn::Add(sum_x2, hn::Mul(x, x));
      sum_xy = hn::Add(sum_xy, hn::Mul(x, y));
    }
    hn::Store(sum_e, d, lanes.e + lane);
    hn::Store(sum_abs, d, lanes.abs_e + lane);
    hn::Store(sum_e2, d, lanes.e2 + lane);
    hn::Store(sum_x2, d, lanes.x2 + lane);
    hn::Store(sum_xy, d, lanes.xy + lane);
  }
}

// FoldLanes of numeric.h: lanes j and j + w for w = 8, 4, 2, 1.
HWY_INLINE double FoldSumLanes(double* lanes) {
  if constexpr (kWideLanes == 4) {
    const F64Tag d;
    const F64Vec eight_low = hn::Add(hn::Load(d, lanes), hn::Load(d, lanes + 8));
    const F64Vec eight_high = hn::Add(hn::Load(d, lanes + 4), hn::Load(d, lanes + 12));
    const F64Vec four = hn::Add(eight_low, eight_high);
    const auto two = hn::Add(hn::LowerHalf(four), hn::UpperHalf(hn::Half<F64Tag>(), four));
    return hn::GetLane(two) + hn::ExtractLane(two, 1);
  } else {
    return FoldLanes(lanes);
  }
}

// AddBlock of error_stats_scalar.cc for a full block, but for the histogram.
template <FloatType kType, CodeBook kBook>
HWY_INLINE void AddFullBlock(const StatsBlock& block, GroupSums* group, SlabStats* stats) {
  const auto* x = static_cast<const std::uint8_t*>(block.x) + block.begin * FloatSize(kType);
  const std::uint8_t* packed = block.codes + block.begin / 2;
  const auto block_size = static_cast<std::uint32_t>(block.end - block.begin);
  Piece piece;
  SumLanes lanes;
  FloatPass<kType, kBook> pass(block.scale);
  for (std::uint32_t i = 0; i < block_size; i += kPiece) {
    const std::uint32_t size = block_size < kPiece ? block_size : kPiece;
    pass.Run(x + i * FloatSize(kType), packed + i / 2, size, piece);
    AddPiece(piece, size, i == 0, lanes);
  }
  const GroupSums sums = {FoldSumLanes(lanes.e), FoldSumLanes(lanes.abs_e), FoldSumLanes(lanes.e2),
                          FoldSumLanes(lanes.x2), FoldSumLanes(lanes.xy)};
  AddToGroup(sums, group);
  NoteWorstBlock(block.index, sums.e2, stats);

  CountZeroAndTiny(block.scale, pass.AllZero(), stats);
  if (MayOverflow(kType, block.scale)) CountOverflow(block, stats);
  if (pass.AnyErrorAbove(ErrorLimit(*stats))) NoteMaxAbsError(block, stats);
  const bool may_raise_ratio = GapFilterApplies(block.scale, *stats) ? pass.AnyRatioAbove(GapLimit(block.scale, *stats))
                                                                     : pass.AnyErrorAbove(0.0f);
  if (may_raise_ratio) {
    NoteGapRatio(block, stats);
  } else if (std::fabs(block.scale) >= kTiny) {
    stats->clipped += pass.Clipped();
  }
}

template <FloatType kType, CodeBook kBook>
void ErrorStatsOf(const void* x, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                  std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  *stats = SlabStats{};
  stats->count = n;
  const std::uint64_t full_blocks = n / block_size;
  ByteHistogram histogram;
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    GroupSums* group = &groups[k / kScaleGroup];
    if (k % kScaleGroup == 0) *group = GroupSums{};
    const std::uint64_t begin = k * block_size;
    if (k == full_blocks) {
      AddBlock({kType, kBook, x, codes, scales[k], k, begin, n}, group, stats);
      break;
    }
    AddFullBlock<kType, kBook>({kType, kBook, x, codes, scales[k], k, begin, begin + block_size}, group, stats);
    histogram.Add(codes + begin / 2, block_size / 2);
  }
  FinishGroups(groups, GroupCount(BlockCount(n, block_size)));
  histogram.FoldInto(stats->hist);
}

template <FloatType kType>
void ErrorStatsOf(CodeBook book, const void* x, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                  std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  if (book == CodeBook::kNf4)
    return ErrorStatsOf<kType, CodeBook::kNf4>(x, codes, scales, n, block_size, groups, stats);
  return ErrorStatsOf<kType, CodeBook::kFp4>(x, codes, scales, n, block_size, groups, stats);
}

}  // namespace

void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  if (type == FloatType::kF32) {
    return ErrorStatsOf<FloatType::kF32>(book, x, codes, scales, n, block_size, groups, stats);
  }
  if (type == FloatType::kF16) {
    return ErrorStatsOf<FloatType::kF16>(book, x, codes, scales, n, block_size, groups, stats);
  }
  return ErrorStatsOf<FloatType::kBF16>(book, x, codes, scales, n, block_size, groups, stats);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
