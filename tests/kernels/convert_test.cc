// Conversions against the definition of round to nearest even, in fp64 (numerics.md Q1.2, Q6.1).
#include <cmath>

#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

// A finite 16-bit format: value = significand * 2^exponent with `bits` significand bits.
struct Format {
  int bits, min_exponent;  // of the smallest subnormal
  double largest;
};
constexpr Format kF16Format{11, -24, 65504.0}, kBf16Format{8, -133, 0x1.FEp+127};

// v rounded to the format; infinite past the midpoint above the largest value.
double RoundModel(const Format& format, double v) {
  if (v == 0) return v;
  const int exponent = std::max(std::ilogb(v) - format.bits + 1, format.min_exponent);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(v, -exponent)), exponent);
  return std::fabs(rounded) > format.largest ? std::copysign(INFINITY, v) : rounded;
}

}  // namespace

TEST_CASE("every fp16 and bf16 value widens exactly and comes back") {
  for (const FloatType type : {FloatType::kF16, FloatType::kBF16}) {
    std::vector<std::uint16_t> all(65536), back(65536);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
    std::vector<float> wide(65536);
    for (const KernelTable* kernels : AllBackends()) {
      INFO(kernels->name << " " << NameOf(type));
      CHECK(kernels->convert(type, all.data(), all.size(), FloatType::kF32, wide.data()) == 0);
      CHECK(kernels->convert(FloatType::kF32, wide.data(), wide.size(), type, back.data()) == 0);
      int wrong_value = 0, wrong_return = 0;
      for (std::size_t i = 0; i < all.size(); ++i) {
        const int exponent = type == FloatType::kF16 ? (all[i] >> 10) & 31 : (all[i] >> 7) & 255;
        const int mantissa_bits = type == FloatType::kF16 ? 10 : 7;
        const int mantissa = all[i] & ((1 << mantissa_bits) - 1);
        const bool special = exponent == (type == FloatType::kF16 ? 31 : 255);
        const int bias = type == FloatType::kF16 ? 15 : 127;
        double value = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                     : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
        if (special) value = INFINITY;
        if (all[i] >> 15 != 0) value = -value;
        const bool is_nan = special && mantissa != 0;
        if (is_nan) {
          wrong_value += !std::isnan(wide[i]) || std::signbit(wide[i]) != std::signbit(value);
          wrong_return += back[i] != (all[i] | (1 << (mantissa_bits - 1)));  // quiet, payload kept
        } else {
          wrong_value += static_cast<double>(wide[i]) != value || std::signbit(wide[i]) != std::signbit(value);
          wrong_return += back[i] != all[i];
        }
      }
      CHECK(wrong_value == 0);
      CHECK(wrong_return == 0);
    }
  }
}

TEST_CASE("narrowing rounds to nearest even, keeps subnormals and counts overflows") {
  Random random(1);
  std::vector<float> x;
  for (std::uint32_t h = 0; h < 65536; ++h) {  // ties between neighbours, and next to them
    const auto half = static_cast<std::uint16_t>(h);
    for (const float v : {WidenF16(half), WidenBf16(half)}) {
      if (!IsFinite(v)) continue;
      const std::uint32_t tie = v == WidenF16(half) ? 0x1000 : 0x8000;
      for (const std::uint32_t delta : {tie - 1, tie, tie + 1}) {
        if (IsFinite(FloatOf(BitsOf(v) + delta))) x.push_back(FloatOf(BitsOf(v) + delta));
      }
    }
  }
  for (int k = -2; k <= 2; ++k) {
    for (const float edge :
         {65504.0f, 65520.0f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 0x1p-14f, 0x1.FFp+127f, 0x1p-133f, 0x1p-134f}) {
      x.push_back(Nudge(edge, k));
      x.push_back(-Nudge(edge, k));
    }
  }
  for (int i = 0; i < 200'000; ++i) x.push_back(random.FinitePattern());
  for (int i = 0; i < 200'000; ++i) x.push_back(std::ldexp(random.Normal(), static_cast<int>(random.Below(45)) - 27));

  for (const FloatType type : {FloatType::kF16, FloatType::kBF16}) {
    const Format& format = type == FloatType::kF16 ? kF16Format : kBf16Format;
    for (const KernelTable* kernels : AllBackends()) {
      std::vector<std::uint16_t> out(x.size());
      const std::uint64_t overflows = kernels->convert(FloatType::kF32, x.data(), x.size(), type, out.data());
      std::uint64_t expected_overflows = 0, differing = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = RoundModel(format, static_cast<double>(x[i]));
        const double actual = static_cast<double>(LoadElement(type, out.data(), i));
        differing += expected != actual || std::signbit(expected) != std::signbit(actual);
        expected_overflows += std::isinf(expected);
      }
      INFO(kernels->name << " " << NameOf(type));
      CHECK(differing == 0);
      CHECK(overflows == expected_overflows);
    }
  }
}

}  // namespace q4::testing
