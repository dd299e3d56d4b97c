// What a tensor is: element type, shape, name, where its bytes lie.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// Element types by their safetensors names. The numeric values are stored in .q4 files (docs/format.md) and never
// change.
enum class DType : std::uint8_t {
  kBool = 1,
  kU8 = 2,
  kI8 = 3,
  kF8E4M3 = 4,
  kF8E5M2 = 5,
  kF8E8M0 = 6,
  kU16 = 7,
  kI16 = 8,
  kF16 = 9,
  kBF16 = 10,
  kU32 = 11,
  kI32 = 12,
  kF32 = 13,
  kU64 = 14,
  kI64 = 15,
  kF64 = 16,
  kC64 = 17,
};
inline constexpr int kMaxDType = 17;

// 1, 2, 4 or 8 bytes per element. REQUIRES, as DTypeName does: an enumerator; numbers from a file are checked first.
std::uint64_t ItemSize(DType dtype);

// The safetensors name: "BF16", "F8_E4M3", ...
std::string_view DTypeName(DType dtype);

// NOT_FOUND-like: returns false when `name` is no whole-byte safetensors dtype (the sub-byte F4 and F6 types are not).
bool ParseDTypeName(std::string_view name, DType* dtype);

// Whether the kernels can quantize this type: F32, F16, BF16.
bool IsQuantizable(DType dtype);

using Shape = std::vector<std::uint64_t>;  // row-major, outermost first; empty for a scalar

// The product of the dimensions, 1 for a scalar. False when the dimensions other than 0 have a product of 2^48 or more
// (limits::kTensorElements); below it, counts times item sizes fit 64 bits easily.
[[nodiscard]] bool CountElements(const Shape& shape, std::uint64_t* elems);

// "[4096, 11008]"
std::string ShapeString(const Shape& shape);

// One tensor of a checkpoint. All fields are validated by the reader that made it: ElementCount(shape) < 2^48 and
// bytes == ElementCount(shape) * ItemSize(dtype), lying inside the file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t elems = 0;  // product of shape; 1 for a scalar
  std::uint64_t bytes = 0;
  std::uint32_t file = 0;    // index into Checkpoint::files()
  std::uint64_t offset = 0;  // of the first byte in that file
};

}  // namespace q4
