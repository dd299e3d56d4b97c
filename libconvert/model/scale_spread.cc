#include "libconvert/model/scale_spread.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace q4 {
namespace {

// Counted by the exponent's bits, so that a scale costs one increment. Field 0 holds zeros and subnormals.
constexpr std::size_t kExponents = 256;
constexpr int kExponentBias = 127;

}  // namespace

void AddScales(std::span<const float> scales, ScaleSpread* spread) {
  if (scales.empty()) return;
  std::array<std::uint64_t, kExponents> counts{};
  float least = scales.front(), greatest = scales.front();
  for (const float scale : scales) {
    ++counts[std::bit_cast<std::uint32_t>(scale) >> 23 & 0xFF];
    least = std::min(least, scale);
    greatest = std::max(greatest, scale);
  }
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
  for (const auto& [exponent, count] : from.by_exponent) to->by_exponent[exponent] += count;
}

}  // namespace q4
