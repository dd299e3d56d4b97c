// The reference for nested scales (docs/numerics.md Q5) and the fixed-order sum they rest on (Q7.3).
// Order in a conversion: Sum256 over all scales of a tensor -> NestedOffset -> QuantizeScales, group by group. A
// tensor's offset needs all its scales, so nesting takes place after the last slab has its fp32 scales.
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
    // Every scale of the group equals the offset: no division by zero, and the decoded scale is the offset (Q5.3).
    if (max == 0) {
      std::fill(codes + begin, codes + end, kNestedZeroCode);
      continue;
    }
    a = a > kAbsmax2Floor ? a : kAbsmax2Floor;
    // v is computed a second time and not kept: the same subtraction gives the same bits.
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
    // Each group from 0, then onto the total: a different grouping would round differently.
    double group = 0;
    for (const float v : values.subspan(begin, std::min<std::size_t>(kScaleGroup, values.size() - begin))) {
      group += static_cast<double>(v);
    }
    AddGroup(group);
  }
}

float NestedOffset(double scale_sum, std::uint64_t blocks) {
  // One fp64 division, one rounding to fp32; the number of blocks is exact in fp64 up to 2^53.
  return static_cast<float>(scale_sum / static_cast<double>(blocks));
}

}  // namespace q4
