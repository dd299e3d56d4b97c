// The arithmetic of docs/numerics.md for one element, one operation per line: what the scalar and the CUDA kernels call
// and what the SIMD kernels do lane by lane. Nothing here may be fused, reassociated or approximated (Q10.1).
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

inline constexpr std::uint32_t kF32SignBit = 0x80000000;
inline constexpr std::uint32_t kF32Infinity = 0x7F800000;
inline constexpr std::uint32_t kF32QuietBit = 0x00400000;

Q4_HOST_DEVICE inline std::uint32_t BitsOf(float v) { return std::bit_cast<std::uint32_t>(v); }
Q4_HOST_DEVICE inline float FloatOf(std::uint32_t bits) { return std::bit_cast<float>(bits); }
// Magnitudes compare as integers: exact, order-free, and a NaN is larger than everything (Q4.1).
Q4_HOST_DEVICE inline std::uint32_t MagnitudeBits(float v) { return BitsOf(v) & ~kF32SignBit; }
Q4_HOST_DEVICE inline bool IsFinite(float v) { return MagnitudeBits(v) < kF32Infinity; }  // Q1.4
Q4_HOST_DEVICE inline bool IsInfinite(float v) { return MagnitudeBits(v) == kF32Infinity; }
Q4_HOST_DEVICE inline bool IsNan(float v) { return MagnitudeBits(v) > kF32Infinity; }

// Operations on finite numbers are exactly specified; the sign and payload of a NaN are not. Where an infinite or NaN
// scale (overflow, Q5.12, or a damaged file) makes one, it is replaced by this NaN on every machine.
inline constexpr std::uint32_t kF32Nan = kF32Infinity | kF32QuietBit;
Q4_HOST_DEVICE inline float CanonicalNan(float v) { return IsNan(v) ? FloatOf(kF32Nan) : v; }
Q4_HOST_DEVICE inline double CanonicalNan(double v) { return v == v ? v : std::numeric_limits<double>::quiet_NaN(); }

// ---- Conversions (Q1.2, Q6.1). Widening is exact. Narrowing is RNE, with subnormals, and overflows to infinity. A NaN
// keeps its sign and leading payload bits and becomes quiet, as hardware conversions do; bf16 widens by a shift and
// keeps even that.

Q4_HOST_DEVICE inline float WidenBf16(std::uint16_t h) { return FloatOf(std::uint32_t{h} << 16); }

Q4_HOST_DEVICE inline std::uint16_t NarrowBf16(float v) {
  const std::uint32_t bits = BitsOf(v);
  if (IsNan(v)) return static_cast<std::uint16_t>((bits | kF32QuietBit) >> 16);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

inline constexpr std::uint32_t kF16ExponentGap = 112u << 23;  // fp32's exponent bias less fp16's, in place
inline constexpr std::uint32_t kF16MinNormal = 113u << 23;    // 2^-14 as fp32
inline constexpr std::uint32_t kF16Infinity = 0x7C00;
inline constexpr std::uint32_t kOneHalf = 0x3F000000;  // 0.5f, whose ulp is fp16's smallest subnormal, 2^-24
inline constexpr std::uint32_t kTwoTo112 = (127u + 112u) << 23;

Q4_HOST_DEVICE inline float WidenF16(std::uint16_t h) {
  const std::uint32_t sign = (std::uint32_t{h} & 0x8000) << 16;
  const std::uint32_t magnitude = (std::uint32_t{h} & 0x7FFF) << 13;
  // The exponent and mantissa fields read as fp32 are 2^112 too small, for subnormals too; the product is exact.
  std::uint32_t bits = BitsOf(FloatOf(magnitude) * FloatOf(kTwoTo112));
  if (magnitude >= kF16Infinity << 13) bits |= kF32Infinity;
  if (magnitude > kF16Infinity << 13) bits |= kF32QuietBit;
  return FloatOf(sign | bits);
}

Q4_HOST_DEVICE inline std::uint16_t NarrowF16(float v) {
  const std::uint32_t sign = (BitsOf(v) & kF32SignBit) >> 16;
  const std::uint32_t magnitude = MagnitudeBits(v);
  std::uint32_t half;
  if (magnitude > kF32Infinity) {
    half = kF16Infinity | 0x0200 | ((magnitude >> 13) & 0x03FF);
  } else if (magnitude < kF16MinNormal) {
    // One addition rounds to a multiple of 2^-24.
    half = BitsOf(FloatOf(magnitude) + FloatOf(kOneHalf)) - kOneHalf;
  } else {
    half = (magnitude - kF16ExponentGap + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
    if (half > kF16Infinity) half = kF16Infinity;
  }
  return static_cast<std::uint16_t>(sign | half);
}

// Element i of an array of any alignment, widened; and the way back.
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

// v rounded to `type` and widened again: what a reader of the stored element sees.
Q4_HOST_DEVICE inline float RoundTo(FloatType type, float v) {
  if (type == FloatType::kF32) return v;
  return type == FloatType::kF16 ? WidenF16(NarrowF16(v)) : WidenBf16(NarrowBf16(v));
}

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

// Q4.3: a and kTiny are never NaN, so a plain comparison does.
Q4_HOST_DEVICE inline float ClampTiny(float a) { return a > kTiny ? a : kTiny; }
Q4_HOST_DEVICE inline float Reciprocal(float m) { return 1.0f / m; }

// Q2.3, Q5.4: how many of the ascending `bounds` are strictly below t.
Q4_HOST_DEVICE inline int CountBelow(const float* bounds, int size, float t) {
  int count = 0;
  for (int k = 0; k < size; ++k) count += t > bounds[k];
  return count;
}

inline std::uint8_t CodeOf(CodeBook book, float t) {
  const CodeBookTables& tables = TablesOf(book);
  return tables.order[static_cast<std::size_t>(CountBelow(tables.bounds.data(), 15, t))];
}

// Q3: element i of packed codes; even elements sit in the high nibble.
Q4_HOST_DEVICE inline std::uint8_t UnpackCode(const std::uint8_t* codes, std::uint64_t i) {
  return static_cast<std::uint8_t>(i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 0x0F);
}

// ---- Decoder (Q6.1)

inline float CodeValue(CodeBook book, std::uint8_t code) { return TablesOf(book).values[code]; }
inline float Decode(CodeBook book, std::uint8_t code, float scale) {
  return CanonicalNan(CodeValue(book, code) * scale);
}

// ---- Nested scales (Q5)

inline std::uint8_t NestedCodeOf(float t) {
  return static_cast<std::uint8_t>(CountBelow(kNestedBounds.data(), 255, t));
}

// Q5.5: a multiply and a separate add.
inline float DecodeScale(std::uint8_t code, float absmax2, float offset) {
  const float product = kNestedMap[code] * absmax2;
  return CanonicalNan(product + offset);
}

// ---- Sums (Q7)

// Q7.1: the tree over the 16 lanes of a block.
Q4_HOST_DEVICE inline double FoldLanes(double lanes[16]) {
  for (int w = 8; w >= 1; w /= 2) {
    for (int j = 0; j < w; ++j) lanes[j] += lanes[j + w];
  }
  return lanes[0];
}

}  // namespace q4
