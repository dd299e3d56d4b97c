// The reference for nested scales (docs/numerics.md Q5) and the fixed-order sum they rest on (Q7.3).
#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"

namespace q4 {
namespace scalar {

void QuantizeScales(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2) {
  for (std::uint64_t begin = 0; begin < blocks; begin += kScaleGroup) {
    const std::uint64_t end = std::min(begin + kScaleGroup, blocks);
    std::uint32_t max = 0;
    for (std::uint64_t i = begin; i < end; ++i) max = std::max(max, MagnitudeBits(scales[i] - offset));  // Q5.2, Q5.3
    float& a = absmax2[begin / kScaleGroup];
    a = FloatOf(max);
    if (max == 0) {
      std::fill(codes + begin, codes + end, kNestedZeroCode);
      continue;
    }
    a = a > kAbsmax2Floor ? a : kAbsmax2Floor;
    const float r = Reciprocal(a);
    for (std::uint64_t i = begin; i < end; ++i) {
      const float v = scales[i] - offset;
      codes[i] = NestedCodeOf(v * r);  // Q5.4
    }
  }
}

void DequantizeScales(const std::uint8_t* codes, const float* absmax2, std::uint64_t blocks, float offset,
                      float* scales) {
  for (std::uint64_t i = 0; i < blocks; ++i) scales[i] = DecodeScale(codes[i], absmax2[i / kScaleGroup], offset);
}

}  // namespace scalar

void Sum256::Add(std::span<const float> values) {
  for (std::size_t begin = 0; begin < values.size(); begin += kScaleGroup) {
    double group = 0;
    for (const float v : values.subspan(begin, std::min<std::size_t>(kScaleGroup, values.size() - begin))) {
      group += static_cast<double>(v);
    }
    AddGroup(group);
  }
}

float NestedOffset(double scale_sum, std::uint64_t blocks) {
  return static_cast<float>(scale_sum / static_cast<double>(blocks));
}

}  // namespace q4
