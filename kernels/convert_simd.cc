// scalar::Convert, kLanes elements at a time; the last n % kLanes elements go through it. Equal types are a copy, which
// the scalar function makes.
//
// Overflow is not found by looking at the outputs, as there, but by the magnitude of the input: rounding is monotonic,
// so one bound tells.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/convert_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

// Magnitudes from this one up to infinity round to infinity: half an ulp above the largest finite value, where the tie
// is even.
template <FloatType kOut>
constexpr std::uint32_t kOverflowBits = kOut == FloatType::kF16 ? 0x477FF000 : 0x7F7F8000;

template <FloatType kIn, FloatType kOut>
std::uint64_t ConvertOf(const std::uint8_t* x, std::uint64_t n, std::uint8_t* out) {
  const U32Tag du;
  std::uint64_t overflows = 0;
  std::uint64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    // LoadElement, StoreElement
    const F32Vec v = LoadElements<kIn>(x + i * FloatSize(kIn));
    StoreElements<kOut>(v, out + i * FloatSize(kOut));
    if constexpr (kOut != FloatType::kF32) {
      // IsFinite(v) && IsInfinite(RoundTo(out_type, v)). No fp16 or bf16 number exceeds fp32's range, so fp32 outputs
      // need no count.
      const U32Vec magnitude = MagnitudeBits(v);
      const auto rounds_to_infinity_or_nan = MagnitudeAbove(magnitude, kOverflowBits<kOut> - 1);
      const auto finite = hn::Not(MagnitudeAbove(magnitude, kF32Infinity - 1));
      overflows += hn::CountTrue(du, hn::And(rounds_to_infinity_or_nan, finite));
    }
  }
  return overflows + scalar::Convert(kIn, x + i * FloatSize(kIn), n - i, kOut, out + i * FloatSize(kOut));
}

}  // namespace

std::uint64_t Convert(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out) {
  constexpr FloatType kF32 = FloatType::kF32, kF16 = FloatType::kF16, kBF16 = FloatType::kBF16;
  const auto* from = static_cast<const std::uint8_t*>(x);
  auto* to = static_cast<std::uint8_t*>(out);
  // The types become template arguments: six pairs, each a loop without branches.
  if (in_type == kF32 && out_type == kF16) return ConvertOf<kF32, kF16>(from, n, to);
  if (in_type == kF32 && out_type == kBF16) return ConvertOf<kF32, kBF16>(from, n, to);
  if (in_type == kF16 && out_type == kF32) return ConvertOf<kF16, kF32>(from, n, to);
  if (in_type == kF16 && out_type == kBF16) return ConvertOf<kF16, kBF16>(from, n, to);
  if (in_type == kBF16 && out_type == kF32) return ConvertOf<kBF16, kF32>(from, n, to);
  if (in_type == kBF16 && out_type == kF16) return ConvertOf<kBF16, kF16>(from, n, to);
  return scalar::Convert(in_type, x, n, out_type, out);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
