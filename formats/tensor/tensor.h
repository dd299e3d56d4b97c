// What a tensor is: element type and shape. The vocabulary that readers of checkpoints, the .q4
// container and writers for other software share; no numbers are decoded here (kernels/ does that).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// Element types by their safetensors names; the digits are bits. The numeric values are stored in .q4 files
// (docs/format.md, section 1 of the index) and never change; 0 is none of them.
enum class DType : std::uint8_t {
  // One byte, 0 or 1.
  kBool = 1,
  kU8 = 2,
  kI8 = 3,
  // 8-bit floats by the bits of exponent and mantissa. E8M0 has neither sign nor mantissa: a power of 2, as scales of
  // other formats are stored.
  kF8E4M3 = 4,
  kF8E5M2 = 5,
  kF8E8M0 = 6,
  kU16 = 7,
  kI16 = 8,
  kF16 = 9,
  kBF16 = 10,  // the upper 16 bits of an F32
  kU32 = 11,
  kI32 = 12,
  kF32 = 13,
  kU64 = 14,
  kI64 = 15,
  kF64 = 16,
  kC64 = 17,  // two F32: real and imaginary part
};
// The largest value: a number from a file is a DType if it lies in 1 .. kMaxDType.
inline constexpr int kMaxDType = 17;

// 1, 2, 4 or 8 bytes per element. REQUIRES, as DTypeName does: an enumerator; numbers from a file are checked first.
std::uint64_t ItemSize(DType dtype);

// The safetensors name: "BF16", "F8_E4M3", ... Static memory.
std::string_view DTypeName(DType dtype);

// The inverse: false, leaving `*dtype` alone, when `name` is no whole-byte safetensors dtype. The sub-byte F4 and F6
// types are not, and neither are other spellings such as "bf16".
bool ParseDTypeName(std::string_view name, DType* dtype);

// Whether the kernels can quantize this type: F32, F16, BF16. Others are kept.
bool IsQuantizable(DType dtype);

// Row-major, outermost dimension first; empty for a scalar. The last dimension is the one along which elements are
// adjacent, but blocks of a quantized tensor run over the ends of rows (numerics Q3.1).
using Shape = std::vector<std::uint64_t>;

// The product of the dimensions, 1 for a scalar, 0 when one of them is 0. False when the dimensions other than 0 have a
// product of 2^48 or more (limits::kTensorElements); below it, counts times item sizes fit 64 bits easily. For any
// dimensions that a file may claim.
[[nodiscard]] bool CountElements(const Shape& shape, std::uint64_t* elems);

// "[4096, 11008]", "[]" for a scalar: as Python prints it.
std::string ShapeString(const Shape& shape);

}  // namespace q4
