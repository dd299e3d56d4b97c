// error_stats_scalar.cc, vectorised (docs/numerics.md Q7, Q8). Each full block is read twice:
//   1. in fp32: x and y into a small buffer; the clipped elements; the largest |e| and the largest gap ratio, both
//      approximate;
//   2. in fp64: the five sums, in the 16 lanes of Q7.1.
// Codes are counted group by group.
// Sums repeat the reference, addition by addition. Maxima are not taken from the approximations: those only prove, for
// nearly every element, that it cannot raise the maximum so far. The other elements go through the reference functions.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/error_stats_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/error_stats_block.h"
#include "kernels/error_stats_filter.h"
#include "kernels/error_stats_planes.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

using F64Tag = hn::CappedTag<double, 4>;
using F64Vec = hn::Vec<F64Tag>;
inline constexpr std::size_t kWideLanes = hn::MaxLanes(F64Tag());

using BytesTag = hn::Repartition<std::uint8_t, F32Tag>;  // as many bytes as F32Vec has
using Bytes = hn::Vec<BytesTag>;
inline constexpr std::size_t kVectorElems = 4 * kLanes;  // a step, or half of it
static_assert(kStep % kVectorElems == 0);

// ---- Order within a step. Four vectors hold 4 * kLanes elements; 128 bits of each hold
//   vector 0: elements 0 2 4 6, vector 1: 8 10 12 14, vector 2: 1 3 5 7, vector 3: 9 11 13 15,
// and where vectors have 256 bits, the other half holds the same of the next 16 elements. Two-byte elements and nibbles
// come apart in this order at the least cost, and each 128 bits hold four of the lanes of Q7.1.

struct FourVectors {
  F32Vec v[4];

  // Written out, because what a compiler adds by itself is not compiled for the target, and must not call what is: on
  // AArch64 a vector's own constructor.
  HWY_INLINE FourVectors() {}
  HWY_INLINE FourVectors(F32Vec v0, F32Vec v1, F32Vec v2, F32Vec v3) : v{v0, v1, v2, v3} {}
};

// A step's x and y as four vectors of eight each.
struct Step {
  alignas(64) float x[kStep];
  alignas(64) float y[kStep];
};

// 16 bytes, and with 256 bits those from 32 bytes on.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d8, const std::uint8_t* p) {
  if constexpr (hn::MaxLanes(d8) == 32) {
    return hn::Combine(d8, hn::LoadU(Bytes16Tag(), p + 32), hn::LoadU(Bytes16Tag(), p));
  } else {
    return hn::LoadU(d8, p);
  }
}

// Elements 0 to 7, and with 256 bits 16 to 23, from x[0].
template <FloatType kType>
HWY_INLINE void LoadEvenOdd(const std::uint8_t* x, F32Vec* even, F32Vec* odd) {
  const F32Tag d;
  constexpr std::size_t kNext = (kLanes == 8 ? 16 : 4) * FloatSize(kType);
  if constexpr (kType == FloatType::kBF16) {
    const U32Tag du;
    const auto pairs = hn::BitCast(du, LoadBlocks(BytesTag(), x));
    *even = hn::BitCast(d, hn::ShiftLeft<16>(pairs));                // WidenBf16 of the low half of each word
    *odd = hn::BitCast(d, hn::And(pairs, hn::Set(du, 0xFFFF0000)));  // and of the high half
  } else {
    const F32Vec low = LoadElements<kType>(x), high = LoadElements<kType>(x + kNext);
    *even = hn::ConcatEven(d, high, low);
    *odd = hn::ConcatOdd(d, high, low);
  }
}

// The codes of a step, or of its half `half` where a vector has 128 bits, a byte each (Q3.1).
HWY_INLINE Bytes LoadCodes(const std::uint8_t* packed, std::size_t half) {
  alignas(32) static constexpr std::uint8_t kSpread[] = {0, 1, 2,  3,  4,  5,  6,  7,  0, 1, 2,  3,  4,  5,  6,  7,
                                                         8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15};
  alignas(32) static constexpr std::uint64_t kShifts[] = {4, 0, 4, 0};
  const BytesTag d8;
  const hn::Repartition<std::uint64_t, BytesTag> d64;
  const Bytes spread = hn::TableLookupBytes(hn::LoadDup128(d8, packed), hn::Load(d8, kSpread + 16 * half));
  const auto shifted = hn::Shr(hn::BitCast(d64, spread), hn::Load(d64, kShifts));
  return hn::And(hn::BitCast(d8, shifted), hn::Set(d8, 0x0F));
}

// The floats of each index; 0 for an index whose highest bit is set.
HWY_INLINE FourVectors Lookup(const FloatPlanes& planes, Bytes index) {
  const BytesTag d8;
  const hn::Repartition<std::uint16_t, BytesTag> d16;
  const auto plane = [&](std::size_t k)
                         HWY_ATTR { return hn::TableLookupBytesOr0(hn::LoadDup128(d8, planes.plane[k]), index); };
  const Bytes p0 = plane(0), p1 = plane(1), p2 = plane(2), p3 = plane(3);
  const auto low01 = hn::BitCast(d16, hn::InterleaveLower(d8, p0, p1));
  const auto high01 = hn::BitCast(d16, hn::InterleaveUpper(d8, p0, p1));
  const auto low23 = hn::BitCast(d16, hn::InterleaveLower(d8, p2, p3));
  const auto high23 = hn::BitCast(d16, hn::InterleaveUpper(d8, p2, p3));
  const F32Tag d;
  return {hn::BitCast(d, hn::InterleaveLower(d16, low01, low23)),
          hn::BitCast(d, hn::InterleaveUpper(d16, low01, low23)),
          hn::BitCast(d, hn::InterleaveLower(d16, high01, high23)),
          hn::BitCast(d, hn::InterleaveUpper(d16, high01, high23))};
}

// All ones in each byte whose element is negative (or -0).
HWY_INLINE Bytes NegativeBytes(const FourVectors& e) {
  const I32Tag di;
  const hn::Repartition<std::int16_t, I32Tag> di16;
  const hn::Repartition<std::uint16_t, I32Tag> du16;
  const hn::Repartition<std::int8_t, I32Tag> di8;
  const BytesTag d8;
  // Saturation keeps signs. Within each 128 bits, the words of one vector stand before those of the other.
  const auto first = hn::ReorderDemote2To(di16, hn::BitCast(di, e.v[0]), hn::BitCast(di, e.v[1]));
  const auto second = hn::ReorderDemote2To(di16, hn::BitCast(di, e.v[2]), hn::BitCast(di, e.v[3]));
  const auto mixed =
      hn::Or(hn::And(hn::BitCast(du16, first), hn::Set(du16, 0xFF00)), hn::ShiftRight<8>(hn::BitCast(du16, second)));
  alignas(16) static constexpr std::uint8_t kOrder[] = {1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14};
  const Bytes signs = hn::TableLookupBytes(hn::BitCast(d8, mixed), hn::LoadDup128(d8, kOrder));
  return hn::BitCast(d8, hn::VecFromMask(di8, hn::Lt(hn::BitCast(di8, signs), hn::Zero(di8))));
}

// Turns the signs that NegativeBytes tells into those of a mirrored block (MaximaFilter): all ones under a negative
// scale.
HWY_INLINE Bytes MirrorOf(float scale) { return hn::Set(BytesTag(), scale < 0 ? 0xFF : 0); }

// fl(1/h) of the interval next to each code's value on the side that the sign of e, mirrored or not, tells.
template <CodeBook kBook>
HWY_INLINE FourVectors InverseHalfGaps(Bytes codes, const FourVectors& e, Bytes mirror) {
  const BytesTag d8;
  const Bytes negative = hn::Xor(NegativeBytes(e), mirror);
  if constexpr (CodesAreRanks(kBook)) {
    return Lookup(kGapPlanes<kBook>, hn::Add(codes, negative));  // the interval below has the number before
  } else {
    static_assert(CodesCarrySign(kBook));
    return Lookup(kGapPlanes<kBook>,
                  hn::Xor(codes, hn::And(negative, hn::Set(d8, 8))));  // bit 3: sign of code and e differ
  }
}

// Q8.1: adds the counts of 2 * bytes codes, by table: eight tables, each counting two codes in the nibbles of its sums.
void CountCodes(const std::uint8_t* packed, std::uint64_t bytes, std::uint64_t hist[16]) {
  const BytesTag d8;
  const hn::Repartition<std::uint16_t, BytesTag> d16;
  const hn::Repartition<std::uint64_t, BytesTag> d64;
  constexpr std::size_t kVectorBytes = hn::MaxLanes(d8);
  constexpr std::uint64_t kRun = 7 * kVectorBytes;  // two codes a byte: at most 14 in a nibble
  const Bytes nibble = hn::Set(d8, 0x0F);
  const auto high_nibbles = [&](Bytes v) HWY_ATTR {
    return hn::And(hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d16, v))), nibble);
  };
  alignas(64) std::uint64_t counts[16][kVectorBytes / 8] = {};
  const auto add_to = [&](std::size_t code, Bytes sums) HWY_ATTR {
    hn::Store(hn::Add(hn::Load(d64, counts[code]), hn::SumsOf8(sums)), d64, counts[code]);
  };
  const std::uint64_t vector_bytes = bytes / kVectorBytes * kVectorBytes;
  for (std::uint64_t begin = 0; begin < vector_bytes; begin += kRun) {
    const std::uint64_t end = std::min(begin + kRun, vector_bytes);
    for (std::size_t k = 0; k < 8; k += 4) {  // four tables and their sums fit the registers
      const Bytes t0 = hn::LoadDup128(d8, kCounting.table[k]), t1 = hn::LoadDup128(d8, kCounting.table[k + 1]);
      const Bytes t2 = hn::LoadDup128(d8, kCounting.table[k + 2]), t3 = hn::LoadDup128(d8, kCounting.table[k + 3]);
      Bytes s0 = hn::Zero(d8), s1 = s0, s2 = s0, s3 = s0;
      for (std::uint64_t i = begin; i < end; i += kVectorBytes) {
        const Bytes both = hn::LoadU(d8, packed + i);
        for (const Bytes codes : {high_nibbles(both), hn::And(both, nibble)}) {
          s0 = hn::Add(s0, hn::TableLookupBytes(t0, codes));
          s1 = hn::Add(s1, hn::TableLookupBytes(t1, codes));
          s2 = hn::Add(s2, hn::TableLookupBytes(t2, codes));
          s3 = hn::Add(s3, hn::TableLookupBytes(t3, codes));
        }
      }
      std::size_t code = 2 * k;
      for (const Bytes sums : {s0, s1, s2, s3}) {
        add_to(code++, hn::And(sums, nibble));
        add_to(code++, high_nibbles(sums));
      }
    }
  }
  for (std::size_t code = 0; code < 16; ++code) {
    for (const std::uint64_t count : counts[code]) hist[code] += count;
  }
  for (std::uint64_t i = vector_bytes; i < bytes; ++i) {  // less than a vector is left
    ++hist[packed[i] >> 4];
    ++hist[packed[i] & 0x0F];
  }
}

// |fl(x - y)| and ratio~ (MaximaFilter). Infinity times 0 gives a NaN, perhaps with a sign.
struct Approximations {
  FourVectors error, ratio;

  HWY_INLINE Approximations() {}
};

template <CodeBook kBook>
HWY_INLINE Approximations Approximate(Bytes codes, const FourVectors& x, const FourVectors& y, Bytes mirror) {
  const F32Tag d;
  FourVectors e;
  for (std::size_t k = 0; k < 4; ++k) e.v[k] = hn::Sub(x.v[k], y.v[k]);
  const FourVectors inverses = InverseHalfGaps<kBook>(codes, e, mirror);
  Approximations result;
  for (std::size_t k = 0; k < 4; ++k) {
    result.error.v[k] = hn::BitCast(d, MagnitudeBits(e.v[k]));
    result.ratio.v[k] = hn::Mul(result.error.v[k], inverses.v[k]);
  }
  return result;
}

// The largest approximations, by lane, as bits.
struct Maxima {
  U32Vec error, ratio;

  HWY_INLINE Maxima() : error(hn::Zero(U32Tag())), ratio(hn::Zero(U32Tag())) {}

  HWY_INLINE void Add(const Approximations& approximations) {
    const U32Tag du;
    for (std::size_t k = 0; k < 4; ++k) {
      error = hn::Max(error, hn::BitCast(du, approximations.error.v[k]));
      ratio = hn::Max(ratio, hn::BitCast(du, approximations.ratio.v[k]));
    }
  }

  HWY_INLINE bool AnyErrorAbove(float limit) const {
    return !hn::AllFalse(U32Tag(), MagnitudeAbove(error, BitsOf(limit)));
  }

  HWY_INLINE bool AnyAbove(float error_limit, float gap_limit) const {
    const U32Vec magnitude = MagnitudeBits(hn::BitCast(F32Tag(), ratio));
    return AnyErrorAbove(error_limit) || !hn::AllFalse(U32Tag(), MagnitudeAbove(magnitude, BitsOf(gap_limit)));
  }
};

struct BlockMaxima {
  Maxima maxima;
  U32Vec clipped;  // counts of |x| > |scale|; an infinite or NaN scale has none

  HWY_INLINE BlockMaxima() : clipped(hn::Zero(U32Tag())) {}
};

// The fp32 pass over one block.
template <FloatType kType, CodeBook kBook>
HWY_INLINE BlockMaxima ReadBlock(const std::uint8_t* x, const std::uint8_t* packed, float scale, std::size_t size,
                                 Step* steps) {
  const F32Tag d;
  const I32Tag di;
  const U32Tag du;
  const FloatPlanes& values = kValuePlanes<kBook>;
  const F32Vec scales = hn::Set(d, scale);
  const auto scale_bits = hn::BitCast(di, hn::Set(du, q4::MagnitudeBits(scale)));
  const Bytes mirror = MirrorOf(scale);
  BlockMaxima result;
  for (std::size_t i = 0; i < size; i += kStep, ++steps) {
    for (std::size_t half = 0; half < kStep / kVectorElems; ++half) {
      const Bytes codes = LoadCodes(packed + i / 2, half);
      FourVectors xs, ys = Lookup(values, codes);
      const std::uint8_t* first = x + (i + half * kVectorElems) * FloatSize(kType);
      LoadEvenOdd<kType>(first, &xs.v[0], &xs.v[2]);
      LoadEvenOdd<kType>(first + 8 * FloatSize(kType), &xs.v[1], &xs.v[3]);
      for (std::size_t k = 0; k < 4; ++k) {
        ys.v[k] = hn::Mul(ys.v[k], scales);  // Decode; FinishGroups makes NaNs canonical
        hn::Store(xs.v[k], d, steps->x + 8 * k + 4 * half);
        hn::Store(ys.v[k], d, steps->y + 8 * k + 4 * half);
        const auto is_clipped = hn::Gt(hn::BitCast(di, MagnitudeBits(xs.v[k])), scale_bits);
        result.clipped = hn::Sub(result.clipped, hn::BitCast(du, hn::VecFromMask(di, is_clipped)));
      }
      result.maxima.Add(Approximate<kBook>(codes, xs, ys, mirror));
    }
  }
  return result;
}

// The five sums of Q8.3, some lanes of each.
struct SumVectors {
  F64Vec e, abs_e, e2, x2, xy;
};

HWY_INLINE SumVectors Add(const SumVectors& a, const SumVectors& b) {
  return {hn::Add(a.e, b.e), hn::Add(a.abs_e, b.abs_e), hn::Add(a.e2, b.e2), hn::Add(a.x2, b.x2), hn::Add(a.xy, b.xy)};
}

// Adds kWideLanes elements. The products x * x and x * y of two fp32 numbers are exact in fp64 (48 bits, exponents far
// inside the range), so a fused multiply-add rounds as the two operations of the reference do. e * e is not exact.
HWY_INLINE void AddElements(const Step& step, std::size_t position, SumVectors* sums) {
  const F64Tag d;
  const hn::Rebind<float, F64Tag> d32;
  const F64Vec x = hn::PromoteTo(d, hn::Load(d32, step.x + position));
  const F64Vec y = hn::PromoteTo(d, hn::Load(d32, step.y + position));
  const F64Vec e = hn::Sub(x, y);                  // StatsBlock::Error
  sums->e = hn::Add(sums->e, e);                   // e_lanes of the reference
  sums->abs_e = hn::Add(sums->abs_e, hn::Abs(e));  // abs_lanes
  sums->e2 = hn::Add(sums->e2, hn::Mul(e, e));     // e2_lanes
  sums->x2 = hn::MulAdd(x, x, sums->x2);           // x2_lanes
  sums->xy = hn::MulAdd(x, y, sums->xy);           // xy_lanes
}

// Q7.1: kWideLanes lanes, those from `position` on.
HWY_INLINE SumVectors SumLanes(const Step* steps, std::size_t size, std::size_t position) {
  const F64Vec zero = hn::Zero(F64Tag());
  SumVectors sums = {zero, zero, zero, zero, zero};
  for (std::size_t i = 0; i < size; i += kStep, ++steps) {
    AddElements(*steps, position, &sums);
    AddElements(*steps, position + 4, &sums);
  }
  return sums;
}

using F64HalfTag = hn::Full128<double>;
using F64Half = hn::Vec<F64HalfTag>;

// The tree's step w = 4 for lanes 0 2 4 6 or 1 3 5 7 of one sum, once they are one vector.
template <class V>
HWY_INLINE F64Half AddHalves(V lanes) {
  if constexpr (hn::MaxLanes(hn::DFromV<V>()) == 4) {
    return hn::Add(hn::LowerHalf(lanes), hn::UpperHalf(F64HalfTag(), lanes));
  } else {
    return lanes;
  }
}

// The steps w = 4, 2 and 1, from the even and the odd lanes.
HWY_INLINE double Fold(F64Vec even_lanes, F64Vec odd_lanes) {
  const F64HalfTag d;
  const F64Half even = AddHalves(even_lanes), odd = AddHalves(odd_lanes);
  const F64Half two = hn::Add(hn::InterleaveLower(d, even, odd), hn::InterleaveUpper(d, even, odd));  // w = 2
  return hn::GetLane(two) + hn::ExtractLane(two, 1);                                                  // w = 1
}

HWY_INLINE GroupSums SumBlock(const Step* steps, std::size_t size) {
  // w = 8
  SumVectors even = Add(SumLanes(steps, size, 0), SumLanes(steps, size, 8));
  SumVectors odd = Add(SumLanes(steps, size, 16), SumLanes(steps, size, 24));
  if constexpr (kWideLanes == 2) {  // and w = 4
    even = Add(even, Add(SumLanes(steps, size, 2), SumLanes(steps, size, 10)));
    odd = Add(odd, Add(SumLanes(steps, size, 18), SumLanes(steps, size, 26)));
  }
  return {Fold(even.e, odd.e), Fold(even.abs_e, odd.abs_e), Fold(even.e2, odd.e2), Fold(even.x2, odd.x2),
          Fold(even.xy, odd.xy)};
}

// NoteMaxAbsError and NoteGapRatio for the elements of a block that the approximations do not rule out, in order.
template <CodeBook kBook>
void NoteMaxima(const StatsBlock& block, const Step* steps, float error_limit, float gap_limit, SlabStats* stats) {
  const F32Tag d;
  alignas(64) float error[kStep], ratio[kStep];
  const Bytes mirror = MirrorOf(block.scale);
  const std::uint64_t clipped = stats->clipped;
  for (std::uint64_t begin = block.begin; begin < block.end; begin += kStep, ++steps) {
    Maxima maxima;
    for (std::size_t half = 0; half < kStep / kVectorElems; ++half) {
      FourVectors x, y;
      for (std::size_t k = 0; k < 4; ++k) {
        x.v[k] = hn::Load(d, steps->x + 8 * k + 4 * half);
        y.v[k] = hn::Load(d, steps->y + 8 * k + 4 * half);
      }
      const Approximations approximations = Approximate<kBook>(LoadCodes(block.codes + begin / 2, half), x, y, mirror);
      maxima.Add(approximations);
      for (std::size_t k = 0; k < 4; ++k) {
        hn::Store(approximations.error.v[k], d, error + 8 * k + 4 * half);
        hn::Store(approximations.ratio.v[k], d, ratio + 8 * k + 4 * half);
      }
    }
    if (!maxima.AnyAbove(error_limit, gap_limit)) continue;
    for (std::size_t i = 0; i < kStep; ++i) {
      const std::size_t position = PositionOf(i);
      if (!(error[position] <= error_limit)) NoteMaxAbsError(OneElement(block, begin + i), stats);
      if (!(ratio[position] <= gap_limit)) NoteGapRatio(OneElement(block, begin + i), stats);
    }
  }
  stats->clipped = clipped;  // ReadBlock counts them
}

// AddBlock of error_stats_scalar.cc for a full block, but for the histogram.
template <FloatType kType, CodeBook kBook>
HWY_INLINE void AddFullBlock(const StatsBlock& block, Step* steps, MaximaFilter* filter, GroupSums* group,
                             SlabStats* stats) {
  const auto* x = static_cast<const std::uint8_t*>(block.x) + block.begin * FloatSize(kType);
  const std::size_t size = block.end - block.begin;
  const auto [maxima, clipped] = ReadBlock<kType, kBook>(x, block.codes + block.begin / 2, block.scale, size, steps);
  const GroupSums sums = SumBlock(steps, size);
  AddToGroup(sums, group);
  NoteWorstBlock(block.index, sums.e2, stats);
  CountZeroAndTiny(block.scale, sums.x2 == 0, stats);  // squares neither cancel nor vanish
  if (q4::MagnitudeBits(block.scale) >= SmallestOverflow(kType)) CountOverflow(block, stats);

  if (MaximaFilter::GapLimitApplies(block.scale)) {
    stats->clipped += hn::GetLane(hn::SumOfLanes(U32Tag(), clipped));  // integers: any order
    const float error_limit = filter->error_limit(), gap_limit = filter->GapLimit(block.scale);
    if (maxima.AnyAbove(error_limit, gap_limit)) {
      NoteMaxima<kBook>(block, steps, error_limit, gap_limit, stats);
      filter->Update(*stats);
    }
  } else if (maxima.AnyErrorAbove(0)) {  // a scale that the proof excludes
    NoteMaxAbsError(block, stats);
    NoteGapRatio(block, stats);
    filter->Update(*stats);
  }
}

template <FloatType kType, CodeBook kBook>
void ErrorStatsOf(const void* x, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                  std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  *stats = SlabStats{};
  stats->count = n;
  const std::uint64_t full_blocks = n / block_size;
  MaximaFilter filter(*stats);        // no maximum yet: only exact decodings are ruled out
  Step steps[kMaxBlockSize / kStep];  // x and y of one block, 32 KiB at most
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    GroupSums* group = &groups[k / kScaleGroup];
    const std::uint64_t begin = k * block_size;
    if (k % kScaleGroup == 0) {
      *group = GroupSums{};
      CountCodes(codes + begin / 2, std::min(kScaleGroup, full_blocks - k) * block_size / 2, stats->hist);
    }
    if (k == full_blocks) {  // the tail block, by the reference
      AddBlock({kType, kBook, x, codes, scales[k], k, begin, n}, group, stats);
      break;
    }
    const StatsBlock block = {kType, kBook, x, codes, scales[k], k, begin, begin + block_size};
    AddFullBlock<kType, kBook>(block, steps, &filter, group, stats);
  }
  FinishGroups(groups, GroupCount(BlockCount(n, block_size)));
}

// Finds `book` among those from number kFirst on.
template <FloatType kType, std::size_t kFirst = 0>
void ErrorStatsBook(CodeBook book, const void* x, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                    std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  constexpr auto kBook = static_cast<CodeBook>(kFirst);
  if constexpr (kFirst + 1 < kCodeBookCount) {
    if (book != kBook) {
      return ErrorStatsBook<kType, kFirst + 1>(book, x, codes, scales, n, block_size, groups, stats);
    }
  }
  return ErrorStatsOf<kType, kBook>(x, codes, scales, n, block_size, groups, stats);
}

}  // namespace

void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  if (type == FloatType::kF32) {
    return ErrorStatsBook<FloatType::kF32>(book, x, codes, scales, n, block_size, groups, stats);
  }
  if (type == FloatType::kF16) {
    return ErrorStatsBook<FloatType::kF16>(book, x, codes, scales, n, block_size, groups, stats);
  }
  return ErrorStatsBook<FloatType::kBF16>(book, x, codes, scales, n, block_size, groups, stats);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
