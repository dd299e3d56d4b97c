// One table of dtypes gives names, sizes and the inverse of the names. It is indexed by the enumeration's value, and a
// static_assert ties the two, so that a dtype inserted in the wrong place does not compile.
#include "formats/tensor/tensor.h"

#include <array>

#include "formats/base/checked_math.h"
#include "formats/base/limits.h"

namespace q4 {
namespace {

// A row: safetensors name and bytes of an element.
struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::uint64_t bytes;
};

// In the order of the enumeration's values, which begin at 1.
constexpr std::array<DTypeRow, kMaxDType> kDTypes = {{
    {DType::kBool, "BOOL", 1},
    {DType::kU8, "U8", 1},
    {DType::kI8, "I8", 1},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
    {DType::kF8E8M0, "F8_E8M0", 1},
    {DType::kU16, "U16", 2},
    {DType::kI16, "I16", 2},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kU32, "U32", 4},
    {DType::kI32, "I32", 4},
    {DType::kF32, "F32", 4},
    {DType::kU64, "U64", 8},
    {DType::kI64, "I64", 8},
    {DType::kF64, "F64", 8},
    {DType::kC64, "C64", 8},
}};

// RowOf() relies on this.
constexpr bool TableMatchesEnumeration() {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i + 1) return false;
  }
  return true;
}
static_assert(TableMatchesEnumeration());

// Unchecked: see REQUIRES in the header.
const DTypeRow& RowOf(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype) - 1]; }

}  // namespace

std::uint64_t ItemSize(DType dtype) { return RowOf(dtype).bytes; }

std::string_view DTypeName(DType dtype) { return RowOf(dtype).name; }

bool ParseDTypeName(std::string_view name, DType* dtype) {
  // Seventeen short names: a search is as fast as any map.
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) {
      *dtype = row.dtype;
      return true;
    }
  }
  return false;
}

bool IsQuantizable(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

bool CountElements(const Shape& shape, std::uint64_t* elems) {
  // The product of the dimensions other than 0 is bounded, so that the answer does not depend on where a 0 stands. Each
  // factor is multiplied only while the product is below 2^48, but may itself be any 64-bit number.
  std::uint64_t product = 1;
  bool empty = false;
  for (const std::uint64_t dimension : shape) {
    if (dimension == 0) {
      empty = true;
    } else if (!CheckedMul(product, dimension, &product) || product >= limits::kTensorElements) {
      return false;
    }
  }
  *elems = empty ? 0 : product;
  return true;
}

std::string ShapeString(const Shape& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

}  // namespace q4
