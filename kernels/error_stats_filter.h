// How the SIMD error statistics avoid the reference functions: nearly every element is proved, from fp32
// approximations, unable to raise a maximum of docs/numerics.md Q8.2 and Q8.7. The proofs are here, the arithmetic in
// error_stats_simd.cc.
//
// A maximum is therefore never taken from an approximation: an element that is not ruled out goes through the reference
// function, and its exact error or ratio counts. That is why the results are the reference's, bit for bit. The CUDA
// kernels prove the same in their own way (error_stats_cuda.cu, quantize_stats_cuda.cu).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/error_stats_block.h"
#include "kernels/numeric.h"

namespace q4 {

// fl(1/h), h being half the width of interval j of Q8.7; 0 where there is no interval. Rounded to nearest, so at most
// 2^-24 of itself off, which the margin of the gap limit covers.
constexpr float InverseHalfGap(const ValueIntervals& intervals, int j) {
  if (j < 0 || j >= 15 || intervals.HalfGap(j) == 0) return 0;
  return static_cast<float>(1.0 / intervals.HalfGap(j));
}

// Of a code book whose codes are ranks, as NF4's are: by interval. Entry j belongs to interval j, above code j; entry
// 15 is 0, as is what a look-up gives below code 0.
constexpr std::array<float, 16> InverseHalfGapsByRank(CodeBook book) {
  const ValueIntervals intervals = IntervalsOf(book);
  std::array<float, 16> inverses{};
  for (int j = 0; j < 16; ++j) inverses[static_cast<std::size_t>(j)] = InverseHalfGap(intervals, j);
  return inverses;
}

// Of a symmetric one whose codes carry their sign in bit 3, as FP4's do: by a code's magnitude, the interval away from
// zero, and with 8 added the one toward zero. Zero itself has intervals away from it only.
constexpr std::array<float, 16> InverseHalfGapsByMagnitude(CodeBook book) {
  const ValueIntervals intervals = IntervalsOf(book);
  std::array<float, 16> inverses{};
  for (std::size_t code = 0; code < 8; ++code) {
    int rank = 0;
    while (intervals.values[rank] != static_cast<double>(TablesOf(book).values[code])) ++rank;
    inverses[code] = InverseHalfGap(intervals, rank);
    inverses[code + 8] = InverseHalfGap(intervals, code == 0 ? rank : rank - 1);
  }
  return inverses;
}

// What the maxima so far prove about elements known only by an fp32 approximation.
class MaximaFilter {
 public:
  // Starts from the maxima found so far: none, at the beginning of a slab.
  explicit MaximaFilter(const SlabStats& stats) { Update(stats); }

  // Due after each block whose elements were looked at exactly; an outdated filter lets more elements through, never
  // fewer.
  void Update(const SlabStats& stats) {
    // The conversion to float may round up by 2^-24; the factor takes more than that away.
    error_limit_ = static_cast<float>(std::min(stats.max_abs_err * (1 - 0x1p-22), kLargestFloat));
    // Above 1.99 an element beyond the next code value could hide; below 2^-10 the proof does not hold (see GapLimit).
    gap_factor_ = stats.max_gap_ratio < 0x1p-10 ? 0 : std::min(stats.max_gap_ratio, 1.99) * (1 - 0x1p-19);
  }

  // |fl(x - y)| up to this one belongs to an error that does not exceed the maximum so far. Rounding is monotonic and
  // moves a normal result by at most 2^-24 of itself; a subnormal difference of two floats is exact. fp32 overflow
  // exceeds every limit.
  float error_limit() const { return error_limit_; }

  // An element whose ratio~ = fl(|fl(x - y)| * fl(1/h)) is at most this limit has no gap ratio (Q8.7) above the maximum
  // M so far. h is half the interval next to the code's value v on the side that the sign of x - y tells.
  // - fl(x - y), fl(1/h) and the product each err by at most 2^-24, the limit likewise, and the reference by a few
  //   2^-53: 1 - 2^-19 covers all of them. A product that underflows errs by 2^-150, far less than 2^-20 of the limit,
  //   which is at least 2^-111.
  // - ratio~ < 1.99 s means that x lies less than 0.995 intervals from y on that side. y differs from v * s by at most
  //   2^-24 |v s|, less than 0.001 of any interval. So u = x / s is in that interval and h is right; or x lies between
  //   y and v * s, which makes the true ratio smaller than 2^-24 / 0.0026, below 2^-10 <= M.
  // - Next to the outermost values there is no interval: 1/h is 0. Such elements are the clipped ones, as y = -s and
  //   y = s are exact.
  // - While M < 2^-10 the limit is 0: ratio~ = 0 means x = y, whose ratio is 0, or a clipped element.
  //
  // A negative scale mirrors the block: of -x and -s the u, |e| and ratios are those of x and s, y and e change their
  // signs without rounding. So all of this holds with |s|, for the side that the sign of y - x tells.
  //
  // The limit applies to scales from 2^-100 on, where a product that underflows is far below the limit (first point);
  // a NaN does not qualify.
  static bool GapLimitApplies(float scale) { return std::fabs(scale) >= 0x1p-100f; }
  // REQUIRES: GapLimitApplies(scale).
  float GapLimit(float scale) const {
    return static_cast<float>(std::min(gap_factor_ * std::fabs(static_cast<double>(scale)), kLargestFloat));
  }

 private:
  static constexpr double kLargestFloat = std::numeric_limits<float>::max();

  float error_limit_;
  double gap_factor_;
};

// Bits of the smallest magnitude that rounds to infinity: half an ulp above the largest number (fp16: 65520). No
// |code value| exceeds 1, so a scale below it overflows nowhere.
constexpr std::uint32_t SmallestOverflow(FloatType type) {
  if (type == FloatType::kF32) return kF32Infinity;
  return type == FloatType::kF16 ? 0x477FF000 : 0x7F7F8000;
}

}  // namespace q4
