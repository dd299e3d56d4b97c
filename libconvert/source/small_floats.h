// Values of floating-point types that have no type of their own in C++: as elements of weights that are stored
// quantized, or as their scales. docs/numerics.md, sections Q13 and Q14. Internal to libconvert/source/.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "formats/tensor/tensor.h"

namespace q4 {

// By code.
using CodeTable = std::array<float, 256>;

// Of a byte's value: E4M3, E5M2; powers of two by their exponent, of which the byte 255 is NaN as E8M0 and infinity as
// U8. REQUIRES: `dtype` is one of these four.
const CodeTable& ValuesOf(DType dtype);

// Rounds each to F16 or BF16, and leaves it an fp32. Any other type: nothing.
void RoundTo(DType dtype, std::span<float> values);

// Values as elements of F32, F16 or BF16: rounded once, each NaN the canonical one. At most 1024.
inline constexpr std::size_t kMostStored = 1024;
void StoreElements(DType dtype, std::span<const float> values, std::uint8_t* out);

}  // namespace q4
