// What a squared error counts in each element of a slab (docs/numerics.md Q16.1), as GPUs take it: an entry for each
// feature, found by the place of the element, so that nothing is written out element by element.
#pragma once

#include <cstdint>

#include "kernels/numeric.h"

namespace q4 {

struct ElementWeights {
  // An entry for each column, matrix after matrix, from the matrix on in which the slab begins; or, where weights are
  // stored as (inputs, outputs), one for each row, from the row on in which it begins. nullptr: 1 for all elements.
  const float* features = nullptr;
  std::uint64_t rows = 1;     // of a matrix as it is stored
  std::uint32_t columns = 1;  // the same, at most kMostWeightedColumns
  std::uint32_t column = 0;   // of the slab's first element
  std::uint64_t row = 0;      // of it, in its matrix
  bool transposed = false;    // stored as (inputs, outputs)
};
inline constexpr std::uint64_t kMostWeightedColumns = std::uint64_t{1} << 31;
inline constexpr std::uint64_t kMostWeightedElems = std::uint64_t{1} << 31;  // of a slab

// The entry of element i of the slab. In 32 bits: a division in 64 would cost as much as a candidate.
Q4_HOST_DEVICE inline std::uint64_t FeatureOf(const ElementWeights& weights, std::uint32_t i) {
  const std::uint32_t at = weights.column + i, rows = at / weights.columns;
  if (weights.transposed) return rows;
  const std::uint64_t row = weights.row + rows;
  const std::uint64_t matrix = row < weights.rows ? 0 : row / weights.rows;
  return matrix * weights.columns + (at - rows * weights.columns);
}

}  // namespace q4
