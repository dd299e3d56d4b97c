// The reference of the encoders mse and weighted (docs/numerics.md Q9, Q16): read quantize_scalar.cc first.
// Per block: elements over the largest magnitude -> for each candidate the codes that its scale gives, and how well
// they could fit -> the best one's scale -> kept if its error is smaller than that of absmax.
#include <algorithm>
#include <cstdint>

#include "kernels/nested_search.h"
#include "kernels/scalar_kernels.h"
#include "kernels/search.h"

namespace q4 {
namespace scalar {
namespace {

constexpr std::uint32_t kMostElems = 4096;  // of a block

// One block, widened. `is_tail`: it is not full, and divides.
struct WidenedBlock {
  std::uint32_t size;
  bool is_tail;
  const float* weights;  // of its elements; nullptr for 1
  float x[kMostElems];

  WidenedBlock(FloatType type, const void* elements, const float* all_weights, std::uint64_t k, std::uint64_t n,
               std::uint32_t block_size) {
    const std::uint64_t begin = k * block_size;
    weights = all_weights == nullptr ? nullptr : all_weights + begin;
    size = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, n - begin));
    is_tail = size < block_size;
    for (std::uint32_t i = 0; i < size; ++i) x[i] = LoadElement(type, elements, begin + i);
  }

  // Q9.2: the scaled element that selects the code.
  float Scaled(std::uint32_t i, float divisor, float reciprocal) const {
    return is_tail ? x[i] / divisor : x[i] * reciprocal;
  }
};

// Q9.3, in the order of Q7.1.
double ErrorUnder(CodeBook book, const WidenedBlock& block, float scale) {
  const float m = SignedDivisor(scale);
  const float r = Reciprocal(m);
  double lanes[16] = {};
  for (std::uint32_t i = 0; i < block.size; ++i) {
    const float y = CodeValue(book, CodeOf(book, block.Scaled(i, m, r))) * scale;
    const double e = static_cast<double>(block.x[i]) - static_cast<double>(y);
    lanes[i % 16] += block.weights == nullptr ? e * e : e * e * static_cast<double>(block.weights[i]);
  }
  return FoldLanes(lanes);
}

// S32 of Q7.2, for two sums at once: 16 fp32 lanes over each run of 256 elements; the runs are added in fp64, and the
// result is rounded to fp32.
class RunSums {
 public:
  void Add(std::uint32_t i, float uc, float cc) {
    uc_[i % 16] += uc;
    cc_[i % 16] += cc;
    if (i % 256 == 255) EndRun();
  }
  PatternSums Finish() {
    EndRun();
    return {static_cast<float>(uc_runs_), static_cast<float>(cc_runs_)};
  }

 private:
  // At the end of nothing it adds 0, which changes nothing.
  void EndRun() {
    uc_runs_ += static_cast<double>(Fold(uc_));
    cc_runs_ += static_cast<double>(Fold(cc_));
  }
  static float Fold(float lanes[16]) {
    for (int w = 8; w >= 1; w /= 2) {
      for (int j = 0; j < w; ++j) lanes[j] += lanes[j + w];
    }
    const float sum = lanes[0];
    std::fill_n(lanes, 16, 0.0f);
    return sum;
  }
  float uc_[16] = {}, cc_[16] = {};
  double uc_runs_ = 0, cc_runs_ = 0;
};

// Q9.4.
PatternSums SumsOf(CodeBook book, const float* u, const float* weights, std::uint32_t size, float factor) {
  RunSums sums;
  for (std::uint32_t i = 0; i < size; ++i) {
    const float c = CodeValue(book, CodeOf(book, u[i] * factor));
    const float hc = weights == nullptr ? c : weights[i] * c;
    sums.Add(i, u[i] * hc, c * hc);
  }
  return sums.Finish();
}

// Q9.4 to Q9.7. `a`: the scale that absmax stores.
float SearchBlock(FloatType type, CodeBook book, const WidenedBlock& block, float a, int effort, double* floor) {
  if (floor != nullptr) *floor = 0;
  if (a < kTiny) return a;  // Q9.4: nothing to search
  float u[kMostElems];
  const float p = Reciprocal(a);
  bool is_zero = true;
  for (std::uint32_t i = 0; i < block.size; ++i) {
    u[i] = block.x[i] * p;
    is_zero = is_zero && block.x[i] == 0;
  }
  if (is_zero) return a;  // a tail block of zeros, whose scale is TINY

  const Candidates& candidates = CandidatesFor(book, effort);
  float best_score = -1, q = 1;
  PatternSums first;
  for (std::size_t k = 0; k < candidates.count; ++k) {
    const PatternSums sums = SumsOf(book, u, block.weights, block.size, candidates.factors[k]);
    if (k == 0) first = sums;
    const float score = sums.uc * sums.uc / sums.cc;
    if (score > best_score) {
      best_score = score;
      q = sums.uc / sums.cc;
    }
  }

  // Q9.6, Q9.7: absmax, unless something else is strictly better.
  const double absmax_error = ErrorUnder(book, block, a);
  float best = a;
  double best_error = absmax_error;
  const auto consider = [&](float s) {
    if (!IsUsableScale(type, s)) return;
    const double error = ErrorUnder(book, block, s);
    if (!(error < best_error)) return;
    best = s;
    best_error = error;
  };
  consider(SnappedScale(a, q));
  if (effort == kMostEffort) consider(SnappedScale(a, SweptQuotient(book, u, block.weights, block.size)));
  if (floor != nullptr && !block.is_tail) *floor = AbsmaxFloor(a, absmax_error, first);
  return best;
}

}  // namespace

std::uint64_t SearchScales(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                           std::uint32_t block_size, int effort, float* scales, double* floors) {
  const std::uint64_t first_bad = Absmax(type, x, n, block_size, scales);
  if (first_bad != kAllFinite) return first_bad;
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    const WidenedBlock block(type, x, weights, k, n, block_size);
    scales[k] = SearchBlock(type, book, block, scales[k], effort, floors == nullptr ? nullptr : floors + k);
  }
  return kAllFinite;
}

void CodesUnder(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                const float* scales, std::uint8_t* codes) {
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    const WidenedBlock block(type, x, nullptr, k, n, block_size);
    const float m = SignedDivisor(scales[k]);
    const float r = Reciprocal(m);
    std::uint8_t* const out = codes + k * block_size / 2;
    for (std::uint32_t i = 0; i < block.size; ++i) {
      const std::uint8_t code = CodeOf(book, block.Scaled(i, m, r));
      out[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? code << 4 : out[i / 2] | code);
    }
    if (block.size % 2 != 0) out[block.size / 2] |= CodeOf(book, 0.0f);  // Q3.2
  }
}

void BlockErrors(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                 std::uint32_t block_size, const float* scales, double* errors) {
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    errors[k] = ErrorUnder(book, WidenedBlock(type, x, weights, k, n, block_size), scales[k]);
  }
}

}  // namespace scalar

void CodesUnderGroups(const float* scales, std::uint64_t blocks, const float* absmax2, std::uint8_t* codes) {
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const float a = absmax2[i / kScaleGroup];
    const float t = a == 0 ? 0.0f : scales[i] * Reciprocal(a);  // Q5.3, Q5.4
    // NestedCodeOf(t)
    const std::uint32_t bits = BitsOf(t);
    codes[i] = kNestedSearch.Count(NestedSearch::Bucket(bits & kF32SignBit, bits & ~kF32SignBit), t);
  }
}

}  // namespace q4
