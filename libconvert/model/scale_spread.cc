// A chunk of fp32 scales has up to 2 Mi of them, and each scale of a container is looked at, so the loop must be cheap.
// It counts by the 8 exponent bits of the fp32 pattern in an array; only the non-empty entries go into the map of the
// result, which is what differs from tensor to tensor.
#include "libconvert/model/scale_spread.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace q4 {
namespace {

// Values of the exponent's 8 bits. Value 0 stands for zeros and subnormals; 255, infinite and NaN, does not occur.
constexpr std::size_t kExponents = 256;
constexpr int kExponentBias = 127;

// `least` is infinite where all are zero.
void AddSizes(float least, float greatest, ScaleSpread* spread) {
  if (greatest == 0) return;
  spread->least_size = spread->greatest_size == 0 ? least : std::min(spread->least_size, least);
  spread->greatest_size = std::max(spread->greatest_size, greatest);
}

}  // namespace

void AddScales(std::span<const float> scales, ScaleSpread* spread) {
  if (scales.empty()) return;
  std::array<std::uint64_t, kExponents> counts{};
  float least = scales.front(), greatest = scales.front(), least_size = std::numeric_limits<float>::infinity();
  for (const float scale : scales) {
    ++counts[std::bit_cast<std::uint32_t>(scale) >> 23 & 0xFF];
    least = std::min(least, scale);
    greatest = std::max(greatest, scale);
    if (scale != 0) least_size = std::min(least_size, std::fabs(scale));
    spread->negative += scale < 0;
  }
  AddSizes(least_size, std::max(-least, greatest), spread);
  // Zeros and subnormals share one entry, so that a chunk with any of them is gone through again. They are rare: a
  // block of zeros has one, and subnormal scales hardly occur.
  if (counts[0] != 0) {
    for (const float scale : scales) {
      if (scale == 0) {
        ++spread->zeros;
      } else if (!std::isnormal(scale)) {
        ++spread->by_exponent[std::ilogb(scale)];
      }
    }
  }
  for (std::size_t field = 1; field < kExponents; ++field) {
    if (counts[field] != 0) spread->by_exponent[static_cast<int>(field) - kExponentBias] += counts[field];
  }
  // A spread without scales has 0 for its extremes, which must not take part.
  spread->min = spread->count == 0 ? least : std::min(spread->min, least);
  spread->max = spread->count == 0 ? greatest : std::max(spread->max, greatest);
  spread->count += scales.size();
}

void AddSpread(const ScaleSpread& from, ScaleSpread* to) {
  if (from.count == 0) return;
  to->min = to->count == 0 ? from.min : std::min(to->min, from.min);
  to->max = to->count == 0 ? from.max : std::max(to->max, from.max);
  to->count += from.count;
  to->zeros += from.zeros;
  to->negative += from.negative;
  AddSizes(from.least_size, from.greatest_size, to);
  for (const auto& [exponent, count] : from.by_exponent) to->by_exponent[exponent] += count;
}

}  // namespace q4
