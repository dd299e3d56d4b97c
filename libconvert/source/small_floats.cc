#include "libconvert/source/small_floats.h"

#include <cmath>
#include <cstring>

#include "kernels/numeric.h"

namespace q4 {
namespace {

// E4M3: sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities, and one NaN of either sign.
float ValueOfE4M3(unsigned code) {
  const unsigned exponent = (code >> 3) & 15, mantissa = code & 7;
  if ((code & 127) == 127) return FloatOf(kF32Nan);
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
  return code >= 128 ? -magnitude : magnitude;
}

// E5M2 is the upper byte of fp16.
float ValueOfE5M2(unsigned code) { return CanonicalNan(WidenF16(static_cast<std::uint16_t>(code << 8))); }

// 2^(byte - 127); 2^128 is infinity, and -127 a subnormal.
float ValueOfExponent(unsigned byte) { return FloatOf(byte == 0 ? 0x00400000 : byte << 23); }

// As E8M0, where 255 is NaN.
float ValueOfE8M0(unsigned byte) { return byte == 255 ? FloatOf(kF32Nan) : ValueOfExponent(byte); }

CodeTable MakeTable(float (*value_of)(unsigned)) {
  CodeTable table;
  for (unsigned code = 0; code < table.size(); ++code) table[code] = value_of(code);
  return table;
}

}  // namespace

const CodeTable& ValuesOf(DType dtype) {
  static const CodeTable e4m3 = MakeTable(ValueOfE4M3), e5m2 = MakeTable(ValueOfE5M2),
                         exponents = MakeTable(ValueOfExponent), e8m0 = MakeTable(ValueOfE8M0);
  switch (dtype) {
    case DType::kF8E4M3:
      return e4m3;
    case DType::kF8E5M2:
      return e5m2;
    case DType::kF8E8M0:
      return e8m0;
    default:
      return exponents;
  }
}

void RoundTo(DType dtype, std::span<float> values) {
  if (dtype == DType::kF16) {
    for (float& value : values) value = WidenF16(NarrowF16(value));
  } else if (dtype == DType::kBF16) {
    for (float& value : values) value = WidenBf16(NarrowBf16(value));
  }
}

void StoreElements(DType dtype, std::span<const float> values, std::uint8_t* out) {
  std::array<float, kMostStored> wide;
  std::array<std::uint16_t, kMostStored> half;
  const std::size_t count = values.size();
  switch (dtype) {
    case DType::kBF16:
      for (std::size_t i = 0; i < count; ++i) half[i] = NarrowBf16(CanonicalNan(values[i]));
      break;
    case DType::kF16:
      for (std::size_t i = 0; i < count; ++i) half[i] = NarrowF16(CanonicalNan(values[i]));
      break;
    default:
      for (std::size_t i = 0; i < count; ++i) wide[i] = CanonicalNan(values[i]);
      std::memcpy(out, wide.data(), count * sizeof(float));
      return;
  }
  std::memcpy(out, half.data(), count * sizeof(std::uint16_t));
}

}  // namespace q4
