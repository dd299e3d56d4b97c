// The statistics measure each error in half steps of the code book around x / s (numerics Q8.7): at most 1 says that
// the code is one of the two neighbours, and the nearer one. They leave out what lies beyond all code values, where the
// outermost code must stand, and blocks whose scale is next to nothing, where every code decodes alike.
#include "libconvert/verify/nearest_codes.h"

#include <algorithm>
#include <cmath>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/encoders.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/slab.h"
#include "libconvert/verify/code_facts.h"

namespace q4 {
namespace {

// How much farther than the nearest code a chosen one may lie, as a share of the scale: what the bounds of
// bitsandbytes' CUDA kernels and rounding make of a tie (numerics Q11).
constexpr double kTieSlack = 1e-5;

std::uint8_t CodeOf(const std::uint8_t* codes, std::uint64_t elem) {
  return codes[elem / 2] >> (elem % 2 == 0 ? 4 : 0) & 15;
}

}  // namespace

std::vector<float> NearestCodes::Widened() const {
  std::vector<float> x(source_.size() / ItemSize(tensor_.dtype));
  kernels_.convert(FloatTypeOf(tensor_.dtype), source_.data(), x.size(), FloatType::kF32, x.data());
  return x;
}

bool NearestCodes::AllUnder(std::span<const float> scales, std::span<const float> largest,
                            const SlabStats& stats) const {
  if (!(stats.max_gap_ratio <= 1 + kTieSlack)) return false;
  if (stats.clipped == 0) return true;
  const std::vector<float> x = Widened();
  const std::span<const float> values = CodeValues(CodeBookOf(tensor_));
  for (std::uint64_t block = 0; block < scales.size(); ++block) {
    const float scale = scales[block], size = std::fabs(scale);
    if (largest[block] <= size || size < TinyScale()) continue;
    const std::uint64_t end = std::min<std::uint64_t>(x.size(), (block + 1) * tensor_.block_size);
    for (std::uint64_t i = block * tensor_.block_size; i < end; ++i) {
      if (std::fabs(x[i]) <= size) continue;
      // Both code books end at -1 and 1.
      if (values[CodeOf(codes_, i)] != std::copysign(1.0f, x[i] * std::copysign(1.0f, scale))) return false;
    }
  }
  return true;
}

Difference NearestCodes::NotNearest(std::span<const float> scales) const {
  const std::vector<float> x = Widened();
  const std::span<const float> values = CodeValues(CodeBookOf(tensor_));
  Difference difference;
  for (std::uint64_t i = 0; i < x.size(); ++i) {
    const double scale = scales[i / tensor_.block_size];
    const auto error = [&](float value) { return std::fabs(double{x[i]} - double{value} * scale); };
    const float nearest =
        *std::min_element(values.begin(), values.end(), [&](float a, float b) { return error(a) < error(b); });
    const double got = error(values[CodeOf(codes_, i)]);
    // The second term: a product near zero is rounded to a subnormal.
    if (got <= error(nearest) + std::fabs(scale) * kTieSlack + 0x1p-148) continue;
    if (difference.count++ == 0) {
      difference.first = fmt::format("element {}: error {}", first_elem_ + i,
                                     GotExpected(fmt::to_string(got), fmt::to_string(error(nearest))));
    }
  }
  return difference;
}

}  // namespace q4
