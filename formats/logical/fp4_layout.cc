// Shapes come from files. Each dimension is below 2^48, so that doubling one cannot wrap; products are counted by the
// caller.
#include "formats/logical/fp4_layout.h"

#include <algorithm>

namespace q4 {
namespace {

// Whether `scale` is `codes` with the scales of `axis` in place of its bytes.
bool DividesAxis(const Shape& codes, const Shape& scale, std::size_t axis, std::uint64_t block) {
  Shape expected = codes;
  if (expected[axis] % (block / 2) != 0) return false;
  expected[axis] /= block / 2;
  return scale == expected;
}

}  // namespace

bool FitF4(F4Form form, const Shape& codes, const Shape& scale, std::uint64_t block, Shape* shape, PackedF4* out) {
  const std::size_t rank = codes.size();
  *shape = codes;
  out->block = block;
  if (form == F4Form::kMatrix) {
    if (rank < 2) return false;
    std::size_t axis = rank - 1;
    out->order = PackedF4::Order::kRows;
    if (!DividesAxis(codes, scale, axis, block)) {
      axis = rank - 2;
      out->order = PackedF4::Order::kColumns;
      if (rank != 3 || !DividesAxis(codes, scale, axis, block)) return false;
    }
    (*shape)[axis] *= 2;
  } else {
    if (rank < 3 || rank > 4 || codes[rank - 1] != block / 2) return false;
    if (scale != Shape(codes.begin(), codes.end() - 1)) return false;
    shape->pop_back();
    // A checked product would be the caller's, of which this is a part.
    if (codes[rank - 2] >= std::uint64_t{1} << 43) return false;
    shape->back() *= block;
    out->order = PackedF4::Order::kRows;
    if (form == F4Form::kTransposed) {
      if (rank != 4) return false;
      std::swap((*shape)[1], (*shape)[2]);
      out->order = PackedF4::Order::kTransposed;
    }
  }
  out->columns = shape->back();
  out->rows = (*shape)[shape->size() - 2];
  return true;
}

bool FitF4Global(const Shape& shape, const Shape& global, PackedF4* out) {
  const auto is_one = [](std::uint64_t size) { return size == 1; };
  if (std::all_of(global.begin(), global.end(), is_one)) return true;
  out->global_step = 1;
  return shape.size() == 3 && global[0] == shape[0] && global.size() <= 3 &&
         std::all_of(global.begin() + 1, global.end(), is_one);
}

}  // namespace q4
