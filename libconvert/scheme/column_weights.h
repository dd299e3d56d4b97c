// What a squared error in an element of a weight counts for the output of its layer: the mean square of the input that
// the element is multiplied by (docs/numerics.md Q16). Elements of a column share it, and those of a row where the
// weight is stored the other way round.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/tensor/tensor.h"

namespace q4 {

// The weights of all elements of one tensor. Immutable and thread-safe.
class ColumnWeights {
 public:
  // Of a tensor of this shape: [out, in], or [matrices, out, in]; with `transposed` [in, out] and [matrices, in, out].
  // `moments`[matrices * in]: finite and not negative. REQUIRES: the sizes agree, and none is 0.
  ColumnWeights(std::span<const float> moments, const Shape& shape, bool transposed);

  // weights[] of the elements from `first` on, in row-major order. All lie between 2^-20 and 2^48.
  void Expand(std::uint64_t first, std::span<float> weights) const;

  // What Expand() needs for `elems` elements from `first` on, and where the first of them lies.
  struct Part {
    std::span<const float>
        features;                 // of each column of the matrices, or transposed of each row, that the part touches
    std::uint64_t rows, columns;  // of a matrix as it is stored
    std::uint64_t row, column;    // of the first element in its matrix
  };
  Part PartOf(std::uint64_t first, std::uint64_t elems) const;

  // By matrix and feature: h[matrices * in].
  std::span<const float> features() const { return features_; }
  bool transposed() const { return transposed_; }

 private:
  std::uint64_t rows_, columns_;  // of a matrix as it is stored
  bool transposed_;
  std::vector<float> features_;
};

}  // namespace q4
