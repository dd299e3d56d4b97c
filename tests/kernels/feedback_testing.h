// What the tests of the encoder feedback share: Hessians, matrices with codes to begin with, and shapes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/feedback.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {

using Count = std::uint64_t;

// Backwards, so that nothing can rely on an order.
inline void Backwards(Count count, const std::function<void(Count)>& work) {
  for (Count i = count; i-- > 0;) work(i);
}

// X X^T over `tokens` inputs whose columns have very different sizes and go together.
inline std::vector<float> HessianOf(Count n, Count tokens, Random* random) {
  std::vector<double> sums(n * n);
  std::vector<double> x(n);
  for (Count t = 0; t < tokens; ++t) {
    const double common = static_cast<double>(random->Normal());
    for (Count j = 0; j < n; ++j) {
      x[j] = (static_cast<double>(random->Normal()) + common) * (0.1 + static_cast<double>((j * 7) % 11)) +
             (j > 0 ? 0.5 * x[j - 1] : 0);
    }
    for (Count a = 0; a < n; ++a) {
      for (Count b = 0; b < n; ++b) sums[a * n + b] += x[a] * x[b];
    }
  }
  std::vector<float> hessian(n * n);
  for (Count i = 0; i < n * n; ++i) hessian[i] = static_cast<float>(sums[i] / static_cast<double>(tokens));
  return hessian;
}

struct FeedbackTestMatrix {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  Count rows, columns;
  Count first;      // elements of the tensor before it
  bool transposed;  // stored as (in, out)
  std::vector<std::uint8_t> x, codes;
  std::vector<float> scales;

  FeedbackTestMatrix(FloatType t, CodeBook b, std::uint32_t bs, Count r, Count c, Content content, Random* random,
                     Count before = 0, bool turned = false)
      : type(t), book(b), block_size(bs), rows(r), columns(c), first(before), transposed(turned) {
    const Count n = first + rows * columns;
    x.resize(n * FloatSize(type));
    codes.resize(PackedBytes(n));
    scales.resize(BlockCount(n, bs));
    FillElements(type, content, bs, n, random, x.data());
    ScalarKernels().search_scales(type, book, x.data(), nullptr, n, bs, kDefaultEffort, scales.data(), nullptr);
    ScalarKernels().codes_under(type, book, x.data(), n, bs, scales.data(), codes.data());
  }

  Count At(Count row, Count column) const {
    return first + (transposed ? column * rows + row : row * columns + column);
  }
  float Element(Count i) const { return LoadElement(type, x.data(), i); }
  float Decoded(const std::vector<std::uint8_t>& of, Count i) const {
    return Decode(book, UnpackCode(of.data(), i), scales[i / block_size]);
  }
  FeedbackMatrix Of(std::vector<std::uint8_t>* of) const {
    return {type, book, block_size, rows, columns, first, transposed, x.data(), scales.data(), of->data()};
  }
  // All tiles, the last one first.
  std::vector<std::uint8_t> Coded(const KernelTable& kernels, const FeedbackFactor& factor, int passes,
                                  Count* kept) const {
    std::vector<std::uint8_t> result = codes;
    FeedbackTile tile(columns);
    *kept = 0;
    Backwards((rows + kFeedbackRows - 1) / kFeedbackRows,
              [&](Count t) { *kept += tile.ChooseCodes(kernels, factor, passes, t, Of(&result)); });
    return result;
  }
};

inline FeedbackFactor FactorOf(const KernelTable& kernels, Count columns, std::vector<float> hessian) {
  FeedbackFactor factor;
  REQUIRE(MakeFeedbackFactor(kernels, columns, hessian, Backwards, &factor));
  return factor;
}

struct FeedbackShape {
  Count rows, columns;
  std::uint32_t block_size;
  FloatType type;
  Content content;
  Count first = 0;
  bool transposed = false;
};
inline const FeedbackShape kFeedbackShapes[] = {
    {1, 1, 32, FloatType::kF32, Content::kNormal},
    {3, 37, 32, FloatType::kBF16, Content::kNormal},
    {64, 64, 64, FloatType::kF16, Content::kNormal},
    {65, 130, 64, FloatType::kF32, Content::kNormal},
    {5, 200, 128, FloatType::kF32, Content::kSparse},
    {4, 65, 4096, FloatType::kBF16, Content::kBounds},
    {7, 96, 32, FloatType::kF32, Content::kSubnormal},
    {6, 70, 64, FloatType::kF32, Content::kHuge},
    {6, 70, 64, FloatType::kF16, Content::kHuge},
    {9, 63, 32, FloatType::kF32, Content::kPatterns},
    {130, 48, 64, FloatType::kF32, Content::kNormal},
    {67, 33, 32, FloatType::kBF16, Content::kNormal, 77},
    {67, 33, 64, FloatType::kF32, Content::kNormal, 0, true},
    {3, 70, 32, FloatType::kF16, Content::kNormal, 5, true},
};

}  // namespace q4::testing
