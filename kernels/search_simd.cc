// search_scalar.cc in vectors (docs/numerics.md Q9). Full blocks only: tail blocks, which divide, go to the scalar
// code.
//
// Candidates lie side by side in a vector, up to sixteen, and each element is broadcast to them: so a candidate's sums
// are added up in one lane, in the order of the scalar code, and no sum over lanes is ever needed. Under one scale
// (codes, errors) it is the elements that lie side by side.
#include <cstdint>
#include <type_traits>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/search_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"
#include "kernels/search.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

constexpr std::uint32_t kMostElems = 4096;  // of a block

// CodeValue(CodeOf(t)) in each lane, for vectors of any width. With eight lanes and more the bounds are searched level
// by level, as in quantize_simd.cc; the last comparison chooses between two values. With four, every bound is compared.
template <CodeBook kBook, class D>
class ValueSearch {
 public:
  using Vec = hn::Vec<D>;

  HWY_INLINE ValueSearch() {
    const D d;
    root_ = hn::Set(d, kBounds[7]);
    low_ = hn::Set(d, kBounds[3]);
    high_ = hn::Set(d, kBounds[11]);
    third_ = hn::LoadU(d, kLevels.third);
    last_ = hn::LoadU(d, kLevels.last);
    below_ = hn::LoadU(d, kLevels.below);
    above_ = hn::LoadU(d, kLevels.above);
  }

  HWY_INLINE Vec ValueOf(Vec t) const {
    const D d;
    if constexpr (hn::MaxLanes(D()) >= 8) {
      const hn::RebindToUnsigned<D> du;
      const auto right = hn::Gt(t, root_);
      const auto right_again = hn::Gt(t, hn::IfThenElse(right, high_, low_));
      // The path so far in binary: 0 to 3, then 0 to 7.
      auto path = hn::Add(hn::IfThenElseZero(hn::RebindMask(du, right), hn::Set(du, 2)),
                          hn::IfThenElseZero(hn::RebindMask(du, right_again), hn::Set(du, 1)));
      const auto third = hn::Gt(t, hn::TableLookupLanes(third_, hn::IndicesFromVec(d, path)));
      path = hn::Add(hn::Add(path, path), hn::IfThenElseZero(hn::RebindMask(du, third), hn::Set(du, 1)));
      const auto index = hn::IndicesFromVec(d, path);
      const auto last = hn::Gt(t, hn::TableLookupLanes(last_, index));
      return hn::IfThenElse(last, hn::TableLookupLanes(above_, index), hn::TableLookupLanes(below_, index));
    } else {
      Vec value = hn::Set(d, ByCount(0));
      for (std::size_t k = 0; k < 15; ++k) {
        value = hn::IfThenElse(hn::Gt(t, hn::Set(d, kBounds[k])), hn::Set(d, ByCount(k + 1)), value);
      }
      return value;
    }
  }

 private:
  static constexpr const std::array<float, 15>& kBounds = TablesOf(kBook).bounds;
  static constexpr float ByCount(std::size_t count) { return TablesOf(kBook).values[TablesOf(kBook).order[count]]; }

  // Sixteen floats each, for the widest vector; eight are ever looked at.
  struct Levels {
    float third[16] = {kBounds[1], kBounds[5], kBounds[9], kBounds[13]};
    float last[16] = {kBounds[0], kBounds[2],  kBounds[4],  kBounds[6],
                      kBounds[8], kBounds[10], kBounds[12], kBounds[14]};
    float below[16] = {ByCount(0), ByCount(2),  ByCount(4),  ByCount(6),
                       ByCount(8), ByCount(10), ByCount(12), ByCount(14)};
    float above[16] = {ByCount(1), ByCount(3),  ByCount(5),  ByCount(7),
                       ByCount(9), ByCount(11), ByCount(13), ByCount(15)};
  };
  static constexpr Levels kLevels{};

  Vec root_, low_, high_, third_, last_, below_, above_;
};

// As many lanes as there are, up to the sixteen candidates of FP4.
using TrialTag = hn::CappedTag<float, 16>;
using TrialVec = hn::Vec<TrialTag>;
constexpr std::size_t kTrialLanes = hn::MaxLanes(TrialTag());

// SumsOf() for kTrialLanes candidates, and their scores and quotients.
struct Trials {
  alignas(64) float uc[32], cc[32], score[32];
};

// The tree of Q7.1 over sixteen vectors.
HWY_INLINE TrialVec FoldLanes(TrialVec lanes[16]) {
  for (std::size_t w = 8; w >= 1; w /= 2) {
    for (std::size_t j = 0; j < w; ++j) lanes[j] = hn::Add(lanes[j], lanes[j + w]);
  }
  return lanes[0];
}

template <CodeBook kBook, bool kWeighted>
void SumTrials(const ValueSearch<kBook, TrialTag>& search, const float* u, const float* weights, std::uint32_t size,
               const float* factors, float* uc, float* cc, float* score) {
  const TrialTag d;
  const TrialVec factor = hn::Load(d, factors);
  // Of several runs (blocks above 256) the fp64 sums.
  alignas(64) double uc_runs[kTrialLanes] = {}, cc_runs[kTrialLanes] = {};
  const std::uint32_t run = size < 256 ? size : 256;
  TrialVec uc_sum, cc_sum;
  for (std::uint32_t begin = 0; begin < size; begin += run) {
    TrialVec uc_lanes[16], cc_lanes[16];
    for (std::size_t lane = 0; lane < 16; ++lane) {
      TrialVec uc_lane = hn::Zero(d), cc_lane = hn::Zero(d);
      for (std::uint32_t i = begin + static_cast<std::uint32_t>(lane); i < begin + run; i += 16) {
        const TrialVec element = hn::Set(d, u[i]);
        const TrialVec c = search.ValueOf(hn::Mul(element, factor));
        const TrialVec hc = kWeighted ? hn::Mul(hn::Set(d, weights[i]), c) : c;
        uc_lane = hn::Add(uc_lane, hn::Mul(element, hc));
        cc_lane = hn::Add(cc_lane, hn::Mul(c, hc));
      }
      uc_lanes[lane] = uc_lane;
      cc_lanes[lane] = cc_lane;
    }
    uc_sum = FoldLanes(uc_lanes);
    cc_sum = FoldLanes(cc_lanes);
    if (size <= 256) break;
    hn::Store(uc_sum, d, uc);
    hn::Store(cc_sum, d, cc);
    for (std::size_t k = 0; k < kTrialLanes; ++k) {
      uc_runs[k] += static_cast<double>(uc[k]);
      cc_runs[k] += static_cast<double>(cc[k]);
    }
  }
  if (size <= 256) {
    hn::Store(uc_sum, d, uc);
    hn::Store(cc_sum, d, cc);
  } else {
    for (std::size_t k = 0; k < kTrialLanes; ++k) {
      uc[k] = static_cast<float>(uc_runs[k]);
      cc[k] = static_cast<float>(cc_runs[k]);
    }
    uc_sum = hn::Load(d, uc);
    cc_sum = hn::Load(d, cc);
  }
  hn::Store(hn::Div(hn::Mul(uc_sum, uc_sum), cc_sum), d, score);
}

// ---- One scale

// fp32 lanes i of a vector as fp64, and the 16 lanes of Q7.1 in vectors of these.
using F64Tag = hn::Repartition<double, F32Tag>;
using F64Vec = hn::Vec<F64Tag>;
constexpr std::size_t kDoubles = hn::MaxLanes(F64Tag());

// ErrorUnder() of a full block.
template <CodeBook kBook, bool kWeighted>
HWY_INLINE double ErrorUnder(const ValueSearch<kBook, F32Tag>& search, const float* x, const float* weights,
                             std::uint32_t size, float scale) {
  const F32Tag d;
  const hn::Half<F32Tag> half;
  const F64Tag dd;
  const F32Vec s = hn::Set(d, scale), r = hn::Set(d, Reciprocal(SignedDivisor(scale)));
  F64Vec lanes[16 / kDoubles];
  for (F64Vec& lane : lanes) lane = hn::Zero(dd);
  for (std::uint32_t i = 0; i < size; i += 16) {
    for (std::size_t part = 0; part < 16 / kLanes; ++part) {
      const F32Vec v = hn::LoadU(d, x + i + part * kLanes);
      const F32Vec y = hn::Mul(search.ValueOf(hn::Mul(v, r)), s);
      const F64Vec low = hn::Sub(hn::PromoteTo(dd, hn::LowerHalf(half, v)), hn::PromoteTo(dd, hn::LowerHalf(half, y)));
      const F64Vec high = hn::Sub(hn::PromoteTo(dd, hn::UpperHalf(half, v)), hn::PromoteTo(dd, hn::UpperHalf(half, y)));
      F64Vec low_e2 = hn::Mul(low, low), high_e2 = hn::Mul(high, high);
      if constexpr (kWeighted) {
        const F32Vec h = hn::LoadU(d, weights + i + part * kLanes);
        low_e2 = hn::Mul(low_e2, hn::PromoteTo(dd, hn::LowerHalf(half, h)));
        high_e2 = hn::Mul(high_e2, hn::PromoteTo(dd, hn::UpperHalf(half, h)));
      }
      lanes[2 * part] = hn::Add(lanes[2 * part], low_e2);
      lanes[2 * part + 1] = hn::Add(lanes[2 * part + 1], high_e2);
    }
  }
  alignas(64) double words[16];
  for (std::size_t v = 0; v < 16 / kDoubles; ++v) hn::Store(lanes[v], dd, words + v * kDoubles);
  return q4::FoldLanes(words);
}

// The elements of a block as fp32.
template <FloatType kType>
HWY_INLINE void Widen(const std::uint8_t* elements, std::uint32_t size, float* x) {
  for (std::uint32_t i = 0; i < size; i += kLanes) {
    hn::StoreU(LoadElements<kType>(elements + i * FloatSize(kType)), F32Tag(), x + i);
  }
}
HWY_INLINE void WidenBlock(FloatType type, const std::uint8_t* elements, std::uint32_t size, float* x) {
  if (type == FloatType::kF32) return Widen<FloatType::kF32>(elements, size, x);
  if (type == FloatType::kF16) return Widen<FloatType::kF16>(elements, size, x);
  Widen<FloatType::kBF16>(elements, size, x);
}

// SearchBlock() of a full block.
template <CodeBook kBook, bool kWeighted>
float SearchBlock(const ValueSearch<kBook, TrialTag>& trial_search, const ValueSearch<kBook, F32Tag>& search,
                  FloatType type, const float* x, const float* weights, std::uint32_t size, float a, int effort,
                  double* floor) {
  if (floor != nullptr) *floor = 0;
  if (a < kTiny) return a;
  const F32Tag d;
  alignas(64) float u[kMostElems];
  const F32Vec p = hn::Set(d, Reciprocal(a));
  for (std::uint32_t i = 0; i < size; i += kLanes) hn::Store(hn::Mul(hn::LoadU(d, x + i), p), d, u + i);

  const Candidates& candidates = CandidatesFor(kBook, effort);
  Trials trials;
  for (std::size_t k = 0; k < candidates.count; k += kTrialLanes) {
    SumTrials<kBook, kWeighted>(trial_search, u, weights, size, candidates.factors + k, trials.uc + k, trials.cc + k,
                                trials.score + k);
  }
  std::size_t best_trial = 0;
  for (std::size_t k = 1; k < candidates.count; ++k) {
    best_trial = trials.score[k] > trials.score[best_trial] ? k : best_trial;
  }
  const float q = trials.uc[best_trial] / trials.cc[best_trial];

  const double absmax_error = ErrorUnder<kBook, kWeighted>(search, x, weights, size, a);
  float best = a;
  double best_error = absmax_error;
  const auto consider = [&](float s) HWY_ATTR {
    if (!IsUsableScale(type, s)) return;
    const double error = ErrorUnder<kBook, kWeighted>(search, x, weights, size, s);
    if (!(error < best_error)) return;
    best = s;
    best_error = error;
  };
  consider(SnappedScale(a, q));
  if (effort == kMostEffort) consider(SnappedScale(a, SweptQuotient(kBook, u, weights, size)));
  if (floor != nullptr) *floor = AbsmaxFloor(a, absmax_error, {trials.uc[0], trials.cc[0]});
  return best;
}

// The weights of a block of a tensor, or nullptr where there are none.
template <bool kWeighted>
HWY_INLINE const float* WeightsAt(const float* weights, std::uint64_t first) {
  return kWeighted ? weights + first : nullptr;
}

template <CodeBook kBook, bool kWeighted>
std::uint64_t SearchBook(FloatType type, const std::uint8_t* x, const float* weights, std::uint64_t n,
                         std::uint32_t block_size, int effort, float* scales, double* floors) {
  const std::uint64_t bad = Absmax(type, x, n, block_size, scales);
  if (bad != kAllFinite) return bad;
  const ValueSearch<kBook, TrialTag> trial_search;
  const ValueSearch<kBook, F32Tag> search;
  const std::uint64_t full = n / block_size, block_bytes = block_size * FloatSize(type);
  alignas(64) float widened[kMostElems];
  for (std::uint64_t k = 0; k < full; ++k) {
    WidenBlock(type, x + k * block_bytes, block_size, widened);
    scales[k] = SearchBlock<kBook, kWeighted>(trial_search, search, type, widened,
                                              WeightsAt<kWeighted>(weights, k * block_size), block_size, scales[k],
                                              effort, floors == nullptr ? nullptr : floors + k);
  }
  return scalar::SearchScales(type, kBook, x + full * block_bytes, WeightsAt<kWeighted>(weights, full * block_size),
                              n - full * block_size, block_size, effort, scales + full,
                              floors == nullptr ? nullptr : floors + full);
}

template <CodeBook kBook, bool kWeighted>
void ErrorsOfBook(FloatType type, const std::uint8_t* x, const float* weights, std::uint64_t n,
                  std::uint32_t block_size, const float* scales, double* errors) {
  const ValueSearch<kBook, F32Tag> search;
  const std::uint64_t full = n / block_size, block_bytes = block_size * FloatSize(type);
  alignas(64) float widened[kMostElems];
  for (std::uint64_t k = 0; k < full; ++k) {
    WidenBlock(type, x + k * block_bytes, block_size, widened);
    errors[k] = ErrorUnder<kBook, kWeighted>(search, widened, WeightsAt<kWeighted>(weights, k * block_size), block_size,
                                             scales[k]);
  }
  scalar::BlockErrors(type, kBook, x + full * block_bytes, WeightsAt<kWeighted>(weights, full * block_size),
                      n - full * block_size, block_size, scales + full, errors + full);
}

}  // namespace

std::uint64_t SearchScales(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                           std::uint32_t block_size, int effort, float* scales, double* floors) {
  return WithBook(book, [&](auto constant) HWY_ATTR {
    constexpr CodeBook kBook = decltype(constant)::value;
    const auto* const bytes = static_cast<const std::uint8_t*>(x);
    return weights == nullptr ? SearchBook<kBook, false>(type, bytes, weights, n, block_size, effort, scales, floors)
                              : SearchBook<kBook, true>(type, bytes, weights, n, block_size, effort, scales, floors);
  });
}

void BlockErrors(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                 std::uint32_t block_size, const float* scales, double* errors) {
  WithBook(book, [&](auto constant) HWY_ATTR {
    constexpr CodeBook kBook = decltype(constant)::value;
    const auto* const bytes = static_cast<const std::uint8_t*>(x);
    weights == nullptr ? ErrorsOfBook<kBook, false>(type, bytes, weights, n, block_size, scales, errors)
                       : ErrorsOfBook<kBook, true>(type, bytes, weights, n, block_size, scales, errors);
  });
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
