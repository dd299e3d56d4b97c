// What the files of the encoders mse and weighted share (docs/numerics.md Q9, Q16): the candidates, the last step of a
// search, which is the same whatever found the scale, and the exact sweep.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/codebook.h"
#include "kernels/numeric.h"

namespace q4 {

// Q9.4: factors on scaled elements, one for each candidate: the trials of the code book and, unless its values are
// symmetric, the same with a minus sign behind them.
struct Candidates {
  // Filled up with the first one, whose repetitions are never better than it: vectors need no special end.
  alignas(64) float factors[32];
  std::size_t count;
};
constexpr Candidates CandidatesOf(CodeBook book, bool few) {
  const CodeBookTables& tables = TablesOf(book);
  const std::size_t trials = few ? tables.few_trials.size() : tables.trials.size();
  Candidates candidates{};
  for (float& factor : candidates.factors) factor = 1;
  for (std::size_t i = 0; i < trials; ++i) {
    const float factor = few ? tables.few_trials[i] : tables.trials[i];
    candidates.factors[i] = factor;
    if (!CodesCarrySign(book)) candidates.factors[trials + i] = -factor;
  }
  candidates.count = CodesCarrySign(book) ? trials : 2 * trials;
  return candidates;
}
// By book, for effort 1 and for the others.
inline constexpr TablePerBook<Candidates> kFewCandidates =
    ForEachBook<Candidates>([](CodeBook book) { return CandidatesOf(book, true); });
inline constexpr TablePerBook<Candidates> kAllCandidates =
    ForEachBook<Candidates>([](CodeBook book) { return CandidatesOf(book, false); });
inline const Candidates& CandidatesFor(CodeBook book, int effort) {
  return (effort == kLeastEffort ? kFewCandidates : kAllCandidates).of[static_cast<std::size_t>(book)];
}

// The sums that judge a candidate (Q9.4): of u * c and of c * c, c being the code values; weighted ones as Q16.2 says.
struct PatternSums {
  float uc = 0, cc = 0;
};

// Q9.5: the scale for codes with these sums, q = uc / cc in units of `a`: rounded to bf16.
Q4_HOST_DEVICE inline float SnappedScale(float a, float q) { return WidenBf16(NarrowBf16(a * q)); }

// Q9.6: the largest magnitude that a scale may have: no element can overflow then, since no code value is above 1.
Q4_HOST_DEVICE inline float LargestScale(FloatType type) {
  switch (type) {
    case FloatType::kF16:
      return 65504.0f;
    case FloatType::kBF16:
      return FloatOf(0x7F7F0000);
    default:
      return FloatOf(0x7F7FFFFF);
  }
}
// Q9.6: whether a scale may be taken at all.
Q4_HOST_DEVICE inline bool IsUsableScale(FloatType type, float s) {
  return MagnitudeBits(s) >= BitsOf(kTiny) && MagnitudeBits(s) <= BitsOf(LargestScale(type));
}

// Q9.9: what the codes of absmax lose at least under whatever scale. `error`: under their own scale a; `sums`: of the
// candidate 1, which has the same codes in a full block. Under the best scale the error is less by cc * (a - best)^2;
// 2^-17 is more than what fp32 may have changed.
Q4_HOST_DEVICE inline double AbsmaxFloor(float a, double error, PatternSums sums) {
  const double off = std::fabs(1.0 - static_cast<double>(sums.uc) / static_cast<double>(sums.cc)) + 0x1p-17;
  const double step = static_cast<double>(a) * off;
  const double floor = error - step * step * static_cast<double>(sums.cc);
  return floor > 0 ? floor : 0;
}

// Q9.7, the exact sweep: the q of the code pattern of largest uc^2 / cc among all that any scale between .5 and 1.6
// times `a` makes. u[size]: elements over a; weights[size] what their errors count, or nullptr for 1. At most 4096.
float SweptQuotient(CodeBook book, const float* u, const float* weights, std::uint32_t size);

}  // namespace q4
