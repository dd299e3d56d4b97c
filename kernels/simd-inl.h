// What the *_simd.cc files share: numeric.h lane by lane, and nibbles. Included once per target, by the toggled guard
// below. A function has the name of the one in numeric.h that it repeats, operation by operation and in the same order;
// read that one first.
//
// Avoided on purpose, because their results are not exactly specified or differ between targets: MulAdd where the
// product is not exact, Approximate*, Min and Max and sums over lanes of floats.
#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/codebook.h"
#include "kernels/kernels.h"
#include "kernels/numeric.h"

#if defined(Q4_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef Q4_KERNELS_SIMD_INL_H_
#undef Q4_KERNELS_SIMD_INL_H_
#else
#define Q4_KERNELS_SIMD_INL_H_
#endif

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Calls `call` with the constant that `book` is, among those from number kFirst on.
template <std::size_t kFirst = 0, class Call>
auto WithBook(CodeBook book, const Call& call) {
  if constexpr (kFirst + 1 < kCodeBookCount) {
    if (book != static_cast<CodeBook>(kFirst)) return WithBook<kFirst + 1>(book, call);
  }
  return call(std::integral_constant<CodeBook, static_cast<CodeBook>(kFirst)>());
}

// Four lanes, or eight where the machine has them. Blocks are multiples of 32 elements, so whole vectors cover whole
// blocks.
using F32Tag = hn::CappedTag<float, 8>;
using U32Tag = hn::RebindToUnsigned<F32Tag>;
using I32Tag = hn::RebindToSigned<F32Tag>;
using F32Vec = hn::Vec<F32Tag>;
using U32Vec = hn::Vec<U32Tag>;
// As many 16-bit elements as F32Vec has lanes: half a vector.
using U16HalfTag = hn::Rebind<std::uint16_t, U32Tag>;
// 16 bytes whatever the target: the unit of byte look-ups, and 32 codes.
using Bytes16Tag = hn::Full128<std::uint8_t>;
using Bytes16 = hn::Vec<Bytes16Tag>;
// Known at compile time on all targets that are built (fixed-size vectors), so loops over a block have a fixed number
// of steps.
inline constexpr std::size_t kLanes = hn::MaxLanes(F32Tag());

// The conversion instructions of x86 are RNE with subnormals whatever MXCSR says (Q10.5); elsewhere integer code is
// used.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
inline constexpr bool kHasF16Conversions = true;
#else
inline constexpr bool kHasF16Conversions = false;
#endif

// MagnitudeBits of numeric.h.
HWY_INLINE U32Vec MagnitudeBits(F32Vec v) {
  const U32Tag du;
  return hn::And(hn::BitCast(du, v), hn::Set(du, ~kF32SignBit));
}

// Whether each magnitude (sign bit clear, so a signed comparison does) is above `limit`.
HWY_INLINE hn::Mask<U32Tag> MagnitudeAbove(U32Vec magnitude, std::uint32_t limit) {
  const U32Tag du;
  const I32Tag di;
  return hn::RebindMask(du, hn::Gt(hn::BitCast(di, magnitude), hn::BitCast(di, hn::Set(du, limit))));
}

// Decode of numeric.h for as many code values as `d` has lanes. The product is one fp32 multiplication per lane; a NaN
// becomes the canonical one (Q1.6).
template <class D>
HWY_INLINE hn::Vec<D> DecodeVector(D d, const float* values, float scale) {
  const hn::RebindToUnsigned<D> du;
  const auto y = hn::Mul(hn::LoadU(d, values), hn::Set(d, scale));
  return hn::IfThenElse(hn::IsNaN(y), hn::BitCast(d, hn::Set(du, kF32Nan)), y);
}

// ---- WidenF16, NarrowF16, NarrowBf16 of numeric.h. Sixteen-bit values sit in the low half of a 32-bit lane.

HWY_INLINE F32Vec WidenF16(U32Vec h) {
  const F32Tag d;
  const U32Tag du;
  // The magnitude's fields at their place in fp32, and the exact product that corrects the exponent.
  const auto sign = hn::ShiftLeft<16>(hn::And(h, hn::Set(du, 0x8000)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(h, hn::Set(du, 0x7FFF)));
  const auto scaled = hn::Mul(hn::BitCast(d, magnitude), hn::BitCast(d, hn::Set(du, kTwoTo112)));
  // Infinity and NaN: what the product made of the largest exponent is replaced.
  const auto is_special = MagnitudeAbove(magnitude, (kF16Infinity << 13) - 1);
  const auto is_nan = MagnitudeAbove(magnitude, kF16Infinity << 13);
  auto bits = hn::BitCast(du, scaled);
  bits = hn::Or(bits, hn::IfThenElseZero(is_special, hn::Set(du, kF32Infinity)));
  bits = hn::Or(bits, hn::IfThenElseZero(is_nan, hn::Set(du, kF32QuietBit)));
  return hn::BitCast(d, hn::Or(sign, bits));
}

HWY_INLINE U32Vec NarrowF16(F32Vec v) {
  const F32Tag d;
  const U32Tag du;
  // All three ranges are computed and the right one is chosen in the end.
  const auto magnitude = MagnitudeBits(v);
  // AndNot(mask, v) keeps the bits outside the mask: the sign.
  const auto sign = hn::ShiftRight<16>(hn::AndNot(hn::Set(du, ~kF32SignBit), hn::BitCast(du, v)));
  const auto nan =
      hn::Or(hn::Set(du, kF16Infinity | 0x0200), hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 0x03FF)));
  // Subnormals: one addition rounds to a multiple of 2^-24.
  const auto one_half = hn::Set(du, kOneHalf);
  const auto subnormal =
      hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(d, magnitude), hn::BitCast(d, one_half))), one_half);
  // Normal numbers: RNE of the 13 bits that are dropped. Values beyond the range end as infinity (an integer minimum).
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Sub(magnitude, hn::Set(du, kF16ExponentGap)), hn::Add(hn::Set(du, 0x0FFF), odd));
  const auto normal = hn::Min(hn::ShiftRight<13>(rounded), hn::Set(du, kF16Infinity));
  // `magnitude < kF16MinNormal` of the scalar code, turned round.
  auto half = hn::IfThenElse(MagnitudeAbove(magnitude, kF16MinNormal - 1), normal, subnormal);
  half = hn::IfThenElse(MagnitudeAbove(magnitude, kF32Infinity), nan, half);
  return hn::Or(sign, half);
}

// For vectors of any width: dequantize_simd.cc uses 64-byte ones.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> NarrowBf16(D d, hn::Vec<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(hn::Set(du, 0x7FFF), odd));
  const auto nan = hn::Or(bits, hn::Set(du, kF32QuietBit));
  return hn::ShiftRight<16>(
      hn::BitCast(du, hn::IfThenElse(hn::IsNaN(v), hn::BitCast(d, nan), hn::BitCast(d, rounded))));
}

// ---- LoadElement and StoreElement: kLanes elements at any alignment, hence by bytes.

// kLanes sixteen-bit words; Highway wants typed pointers to be aligned to their type, which these need not be.
HWY_INLINE hn::Vec<U16HalfTag> LoadHalves(const std::uint8_t* p) {
  const hn::Repartition<std::uint8_t, U16HalfTag> d8;
  return hn::BitCast(U16HalfTag(), hn::LoadU(d8, p));
}

HWY_INLINE void StoreHalves(hn::Vec<U16HalfTag> v, std::uint8_t* p) {
  const hn::Repartition<std::uint8_t, U16HalfTag> d8;
  hn::StoreU(hn::BitCast(d8, v), d8, p);
}

// LoadElement for kLanes neighbours, `p` being the first one's address. Reads kLanes elements, none beyond.
template <FloatType kType>
HWY_INLINE F32Vec LoadElements(const std::uint8_t* p) {
  const F32Tag d;
  const U32Tag du;
  if constexpr (kType == FloatType::kF32) {
    return hn::BitCast(d, hn::LoadU(hn::Repartition<std::uint8_t, F32Tag>(), p));
  } else if constexpr (kType == FloatType::kBF16) {
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, LoadHalves(p))));
  } else if constexpr (kHasF16Conversions) {
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, F32Tag>(), LoadHalves(p)));
  } else {
    return WidenF16(hn::PromoteTo(du, LoadHalves(p)));
  }
}

// StoreElement for kLanes neighbours.
template <FloatType kType>
HWY_INLINE void StoreElements(F32Vec v, std::uint8_t* p) {
  if constexpr (kType == FloatType::kF32) {
    const hn::Repartition<std::uint8_t, F32Tag> d8;
    hn::StoreU(hn::BitCast(d8, v), d8, p);
  } else if constexpr (kType == FloatType::kBF16) {
    StoreHalves(hn::TruncateTo(U16HalfTag(), NarrowBf16(F32Tag(), v)), p);
  } else if constexpr (kHasF16Conversions) {
    StoreHalves(hn::BitCast(U16HalfTag(), hn::DemoteTo(hn::Rebind<hwy::float16_t, F32Tag>(), v)), p);
  } else {
    StoreHalves(hn::TruncateTo(U16HalfTag(), NarrowF16(v)), p);
  }
}

// ---- Nibbles (Q3.1): 16 packed bytes hold 32 codes.

// There is no shift of bytes: 16-bit lanes are shifted, and the mask removes what came from the neighbouring byte.
HWY_INLINE Bytes16 HighNibbles(Bytes16 packed) {
  const Bytes16Tag d8;
  const hn::Repartition<std::uint16_t, Bytes16Tag> d16;
  return hn::And(hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d16, packed))), hn::Set(d8, 0x0F));
}

// The codes of the elements of odd index.
HWY_INLINE Bytes16 LowNibbles(Bytes16 packed) { return hn::And(packed, hn::Set(Bytes16Tag(), 0x0F)); }

// Codes 0 to 15 and 16 to 31 of the 32, one a byte, in order. Interleaving puts each byte's high nibble, the earlier
// element, before its low one.
HWY_INLINE void UnpackCodes(Bytes16 packed, Bytes16& first, Bytes16& second) {
  const Bytes16 even = HighNibbles(packed);
  const Bytes16 odd = LowNibbles(packed);
  first = hn::InterleaveLower(even, odd);
  second = hn::InterleaveUpper(Bytes16Tag(), even, odd);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET

#endif  // per-target include guard
