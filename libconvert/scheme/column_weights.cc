#include "libconvert/scheme/column_weights.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace q4 {
namespace {

// A feature that the calibration saw nothing of counts a millionth of the mean one: it decides where nothing else does,
// and no sum of a search is ever 0 over 0.
constexpr float kLeastWeight = 0x1p-20f;

// Q16.1, of one matrix.
void WeighFeatures(std::span<const float> moments, std::span<float> features) {
  Sum256 sum;
  sum.Add(moments);
  const double mean = sum.total() / static_cast<double>(moments.size());
  for (std::size_t j = 0; j < moments.size(); ++j) {
    // An expert that no token came to: nothing is known.
    features[j] = mean == 0 ? 1.0f : std::max(static_cast<float>(static_cast<double>(moments[j]) / mean), kLeastWeight);
  }
}

}  // namespace

ColumnWeights::ColumnWeights(std::span<const float> moments, const Shape& shape, bool transposed)
    : rows_(shape[shape.size() - 2]), columns_(shape.back()), transposed_(transposed), features_(moments.size()) {
  const std::uint64_t in = transposed ? rows_ : columns_;
  const std::span<float> features = features_;
  for (std::uint64_t at = 0; at < moments.size(); at += in) {
    WeighFeatures(moments.subspan(at, in), features.subspan(at, in));
  }
}

void ColumnWeights::Expand(std::uint64_t first, std::span<float> weights) const {
  std::uint64_t row = first / columns_, column = first % columns_;  // rows of all matrices, one after the other
  for (std::size_t at = 0; at < weights.size(); ++row, column = 0) {
    const std::size_t n = std::min<std::uint64_t>(columns_ - column, weights.size() - at);
    if (transposed_) {
      std::fill_n(weights.begin() + static_cast<std::ptrdiff_t>(at), n, features_[row]);
    } else {
      const std::uint64_t matrix = row / rows_;
      std::copy_n(features_.begin() + static_cast<std::ptrdiff_t>(matrix * columns_ + column), n,
                  weights.begin() + static_cast<std::ptrdiff_t>(at));
    }
    at += n;
  }
}

ColumnWeights::Part ColumnWeights::PartOf(std::uint64_t first, std::uint64_t elems) const {
  // Rows of all matrices, one after the other; up to the row, or the matrix, behind the last element.
  const std::uint64_t row = first / columns_, end_row = (first + elems - 1) / columns_ + 1;
  const std::uint64_t matrix = row / rows_, end_matrix = (end_row - 1) / rows_ + 1;
  const std::span<const float> all = features_;
  return {
      transposed_ ? all.subspan(row, end_row - row) : all.subspan(matrix * columns_, (end_matrix - matrix) * columns_),
      rows_, columns_, row % rows_, first % columns_};
}

}  // namespace q4
