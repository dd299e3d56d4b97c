// The arithmetic of docs/numerics.md for one element, one operation per line: what the scalar and the CUDA kernels call
// and what the SIMD kernels do lane by lane. Nothing here may be fused, reassociated or approximated (Q10.1): the
// build's float rules, for C++ and for CUDA, turn contraction and fast-math off wherever this is compiled.
//
// Order: bits of a float, conversions, elements of arrays, encoder (Q4), packed codes (Q3), decoder (Q6), nested scales
// (Q5), sums (Q7). All functions are pure and have no error to report: what an infinite or NaN scale leads to is
// defined (Q1.6).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/codebook.h"
#include "kernels/kernels.h"

// Functions that read a table are for the host: device code keeps the tables in its own memory
// (kernels/cuda_tables.cuh).
#ifdef __CUDACC__
#define Q4_HOST_DEVICE __host__ __device__
#else
#define Q4_HOST_DEVICE
#endif

namespace q4 {

// ---- Bits of a float

// Fields of a binary32: the sign, the exponent with all bits set, and the bit that makes a NaN a quiet one.
inline constexpr std::uint32_t kF32SignBit = 0x80000000;
inline constexpr std::uint32_t kF32Infinity = 0x7F800000;
inline constexpr std::uint32_t kF32QuietBit = 0x00400000;

// The bits of a number and the number of bits. On the device both are free: registers have no type.
Q4_HOST_DEVICE inline std::uint32_t BitsOf(float v) { return std::bit_cast<std::uint32_t>(v); }
Q4_HOST_DEVICE inline float FloatOf(std::uint32_t bits) { return std::bit_cast<float>(bits); }
// Magnitudes compare as integers: exact, order-free, and a NaN is larger than everything (Q4.1).
Q4_HOST_DEVICE inline std::uint32_t MagnitudeBits(float v) { return BitsOf(v) & ~kF32SignBit; }
// The three classes, told by the magnitude: below, at or above that of infinity.
Q4_HOST_DEVICE inline bool IsFinite(float v) { return MagnitudeBits(v) < kF32Infinity; }  // Q1.4
// For decoded values, which `overflow` counts (Q8.9).
Q4_HOST_DEVICE inline bool IsInfinite(float v) { return MagnitudeBits(v) == kF32Infinity; }
Q4_HOST_DEVICE inline bool IsNan(float v) { return MagnitudeBits(v) > kF32Infinity; }

// Operations on finite numbers are exactly specified; the sign and payload of a NaN are not. Where an infinite or NaN
// scale (overflow, Q5.12, or a damaged file) makes one, it is replaced by this NaN on every machine. Decoders and group
// sums pass every result that may be one through CanonicalNan (Q1.6), which changes no other number.
inline constexpr std::uint32_t kF32Nan = kF32Infinity | kF32QuietBit;
Q4_HOST_DEVICE inline float CanonicalNan(float v) { return IsNan(v) ? FloatOf(kF32Nan) : v; }
// The same for fp64, 7FF8000000000000: group sums are doubles.
Q4_HOST_DEVICE inline double CanonicalNan(double v) { return v == v ? v : std::numeric_limits<double>::quiet_NaN(); }

// ---- Conversions (Q1.2, Q6.1). Widening is exact. Narrowing is RNE, with subnormals, and overflows to infinity. A NaN
// keeps its sign and leading payload bits and becomes quiet, as hardware conversions do; bf16 widens by a shift and
// keeps even that.

// bf16 is the upper half of an fp32.
Q4_HOST_DEVICE inline float WidenBf16(std::uint16_t h) { return FloatOf(std::uint32_t{h} << 16); }

// RNE to the upper 16 bits: adding 0x7FFF, and 1 more if the kept part is odd, carries into it exactly when rounding
// goes up. The carry may run into the exponent, up to infinity. A NaN is dealt with before, because its carry could run
// out of the exponent.
Q4_HOST_DEVICE inline std::uint16_t NarrowBf16(float v) {
  const std::uint32_t bits = BitsOf(v);
  if (IsNan(v)) return static_cast<std::uint16_t>((bits | kF32QuietBit) >> 16);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// Constants of the fp16 conversions, as bits of fp32 except kF16Infinity, which is fp16's.
inline constexpr std::uint32_t kF16ExponentGap = 112u << 23;  // fp32's exponent bias less fp16's, in place
inline constexpr std::uint32_t kF16MinNormal = 113u << 23;    // 2^-14 as fp32
inline constexpr std::uint32_t kF16Infinity = 0x7C00;
inline constexpr std::uint32_t kOneHalf = 0x3F000000;  // 0.5f, whose ulp is fp16's smallest subnormal, 2^-24
inline constexpr std::uint32_t kTwoTo112 = (127u + 112u) << 23;

Q4_HOST_DEVICE inline float WidenF16(std::uint16_t h) {
  // Sign, then magnitude: the 15 bits moved to where fp32 has exponent and mantissa.
  const std::uint32_t sign = (std::uint32_t{h} & 0x8000) << 16;
  const std::uint32_t magnitude = (std::uint32_t{h} & 0x7FFF) << 13;
  // The exponent and mantissa fields read as fp32 are 2^112 too small, for subnormals too; the product is exact.
  std::uint32_t bits = BitsOf(FloatOf(magnitude) * FloatOf(kTwoTo112));
  // fp16's largest exponent is that of infinities and NaNs; the product gave it a finite value.
  if (magnitude >= kF16Infinity << 13) bits |= kF32Infinity;
  if (magnitude > kF16Infinity << 13) bits |= kF32QuietBit;
  return FloatOf(sign | bits);
}

// RNE, in three ranges of the magnitude: NaN, what becomes a subnormal or zero, and the rest, which may round to
// infinity.
Q4_HOST_DEVICE inline std::uint16_t NarrowF16(float v) {
  const std::uint32_t sign = (BitsOf(v) & kF32SignBit) >> 16;
  const std::uint32_t magnitude = MagnitudeBits(v);
  std::uint32_t half;
  if (magnitude > kF32Infinity) {
    // Quiet bit, and the leading ten bits of the payload.
    half = kF16Infinity | 0x0200 | ((magnitude >> 13) & 0x03FF);
  } else if (magnitude < kF16MinNormal) {
    // Below 2^-14 the result is a number of steps of 2^-24, which is what the mantissa of 0.5 + x counts; the highest
    // count is the smallest normal number, as it should be.
    // One addition rounds to a multiple of 2^-24.
    half = BitsOf(FloatOf(magnitude) + FloatOf(kOneHalf)) - kOneHalf;
  } else {
    // As in NarrowBf16, for the 13 bits that are dropped: just under half of them, and 1 more if the kept part is odd.
    half = (magnitude - kF16ExponentGap + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
    // Magnitudes beyond fp16's range come out above infinity, since the steps are monotonic.
    if (half > kF16Infinity) half = kF16Infinity;
  }
  return static_cast<std::uint16_t>(sign | half);
}

// Element i of an array of any alignment, widened; and the way back. By memcpy, because elements in mapped files lie at
// any alignment; compilers make one load of it.
Q4_HOST_DEVICE inline float LoadElement(FloatType type, const void* array, std::uint64_t i) {
  const auto* bytes = static_cast<const unsigned char*>(array) + i * FloatSize(type);
  if (type == FloatType::kF32) {
    float v;
    std::memcpy(&v, bytes, sizeof(v));
    return v;
  }
  std::uint16_t h;
  std::memcpy(&h, bytes, sizeof(h));
  return type == FloatType::kF16 ? WidenF16(h) : WidenBf16(h);
}

// v rounded to `type` and widened again: what a reader of the stored element sees. Infinite where v is beyond the
// type's range, which is how overflow is found (Q8.9).
Q4_HOST_DEVICE inline float RoundTo(FloatType type, float v) {
  if (type == FloatType::kF32) return v;
  return type == FloatType::kF16 ? WidenF16(NarrowF16(v)) : WidenBf16(NarrowBf16(v));
}

// Rounds v to `type` (Q6.1) and stores it as element i of an array of any alignment.
Q4_HOST_DEVICE inline void StoreElement(FloatType type, void* array, std::uint64_t i, float v) {
  auto* bytes = static_cast<unsigned char*>(array) + i * FloatSize(type);
  if (type == FloatType::kF32) {
    std::memcpy(bytes, &v, sizeof(v));
  } else {
    const std::uint16_t h = type == FloatType::kF16 ? NarrowF16(v) : NarrowBf16(v);
    std::memcpy(bytes, &h, sizeof(h));
  }
}

// ---- Encoder absmax (Q4)

// Q4.3: a and kTiny are never NaN, so a plain comparison does. A zero block divides by TINY instead of by zero, and its
// t are zeros (Q4.7).
Q4_HOST_DEVICE inline float ClampTiny(float a) { return a > kTiny ? a : kTiny; }
// Correctly rounded, and subnormal for m above 2^126 (Q4.7). x * r is not x / m: full blocks multiply, tail blocks
// divide (Q4.8).
Q4_HOST_DEVICE inline float Reciprocal(float m) { return 1.0f / m; }

// Q9.2: the same for a scale of either sign. Of absmax' scales it is ClampTiny().
Q4_HOST_DEVICE inline float SignedDivisor(float s) {
  return FloatOf(MagnitudeBits(s) > BitsOf(kTiny) ? BitsOf(s) : (BitsOf(s) & kF32SignBit) | BitsOf(kTiny));
}

// Q2.3, Q5.4: how many of the ascending `bounds` are strictly below t. Every bound is compared, without a branch: this
// is the definition that each faster search must reproduce for every t (Q10.4). A NaN has no bound below it.
Q4_HOST_DEVICE inline int CountBelow(const float* bounds, int size, float t) {
  int count = 0;
  for (int k = 0; k < size; ++k) count += t > bounds[k];
  return count;
}

// The code of a scaled element: the count selects it through the order of the code book's values (Q2.3).
inline std::uint8_t CodeOf(CodeBook book, float t) {
  const CodeBookTables& tables = TablesOf(book);
  return tables.order[static_cast<std::size_t>(CountBelow(tables.bounds.data(), 15, t))];
}

// Q3: element i of packed codes; even elements sit in the high nibble. `codes` begins with the codes of elements 0 and
// 1, whatever block element i is in: packing is flat. Example: the NF4 codes of 1 and -1, 15 and 0, make the byte F0.
Q4_HOST_DEVICE inline std::uint8_t UnpackCode(const std::uint8_t* codes, std::uint64_t i) {
  return static_cast<std::uint8_t>(i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 0x0F);
}

// ---- Decoder (Q6.1)

// The value of a code, 0 to 15 (Q2.1).
inline float CodeValue(CodeBook book, std::uint8_t code) { return TablesOf(book).values[code]; }
// y32 of Q6.1, before it is rounded to the output type. `scale` is the decoded scale and may be negative (Q6.2); a zero
// keeps the sign that the product gives it.
inline float Decode(CodeBook book, std::uint8_t code, float scale) {
  return CanonicalNan(CodeValue(book, code) * scale);
}

// ---- Nested scales (Q5)

// Q5.4: the code of v / absmax2 by the 255 bounds of the nested map. The scalar kernel's form; see
// kernels/nested_search.h for the fast one.
inline std::uint8_t NestedCodeOf(float t) {
  return static_cast<std::uint8_t>(CountBelow(kNestedBounds.data(), 255, t));
}

// Q5.5: a multiply and a separate add. Two roundings, as every reader of bitsandbytes' files does it (Q5.9); a fused
// multiply-add would have one.
inline float DecodeScale(std::uint8_t code, float absmax2, float offset) {
  // In a statement of its own: a second guard against contraction, beside the build's flags.
  const float product = kNestedMap[code] * absmax2;
  return CanonicalNan(product + offset);
}

// ---- Sums (Q7)

// Q7.1: the tree over the 16 lanes of a block. Four levels, w = 8, 4, 2, 1: lane[j] += lane[j + w]. The lanes are used
// up. Addition is not associative, so this shape is part of the definition.
Q4_HOST_DEVICE inline double FoldLanes(double lanes[16]) {
  for (int w = 8; w >= 1; w /= 2) {
    for (int j = 0; j < w; ++j) lanes[j] += lanes[j + w];
  }
  return lanes[0];
}

}  // namespace q4
