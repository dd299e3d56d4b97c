// scalar::QuantizeScales (docs/numerics.md Q5) for whole groups of 256: the arithmetic kLanes scales at a time, the
// 255-bound search by direct address (nested_search.h). A partial last group, and a group without spread, go through
// the scalar function. Scales are few, one for each block, so the search stays scalar.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/scales_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/nested_search.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

// One whole group of 256 scales.
void QuantizeGroup(const float* scales, float offset, std::uint8_t* codes, float* absmax2) {
  const F32Tag d;
  const U32Tag du;
  const F32Vec offsets = hn::Set(d, offset);
  // Q5.2, Q5.3: v = fl(scale - offset), and the largest magnitude as an integer.
  auto max = hn::Zero(du);
  for (std::size_t i = 0; i < kScaleGroup; i += kLanes) {
    max = hn::Max(max, MagnitudeBits(hn::Sub(hn::LoadU(d, scales + i), offsets)));
  }
  const float a = FloatOf(hn::GetLane(hn::MaxOfLanes(du, max)));
  if (a == 0.0f) return scalar::QuantizeScales(scales, kScaleGroup, offset, codes, absmax2);
  *absmax2 = a > kAbsmax2Floor ? a : kAbsmax2Floor;

  // Q5.4: t = fl(v * r). Stored for the search, which takes them one by one.
  const F32Vec r = hn::Set(d, Reciprocal(*absmax2));
  alignas(32) float t[kScaleGroup];
  for (std::size_t i = 0; i < kScaleGroup; i += kLanes) {
    hn::Store(hn::Mul(hn::Sub(hn::LoadU(d, scales + i), offsets), r), d, t + i);
  }
  for (std::size_t i = 0; i < kScaleGroup; ++i) {
    // NestedCodeOf(t)
    const std::uint32_t bits = BitsOf(t[i]);
    codes[i] = kNestedSearch.Count(NestedSearch::Bucket(bits & kF32SignBit, bits & ~kF32SignBit), t[i]);
  }
}

}  // namespace

void QuantizeScales(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2) {
  const std::uint64_t full_groups = blocks / kScaleGroup;
  for (std::uint64_t g = 0; g < full_groups; ++g) {
    QuantizeGroup(scales + g * kScaleGroup, offset, codes + g * kScaleGroup, absmax2 + g);
  }
  const std::uint64_t done = full_groups * kScaleGroup;
  scalar::QuantizeScales(scales + done, blocks - done, offset, codes + done, absmax2 + full_groups);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
