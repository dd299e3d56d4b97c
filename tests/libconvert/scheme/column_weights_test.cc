// What errors count in the elements of a weight: which feature an element has, whichever way round the weight is
// stored.
#include "libconvert/scheme/column_weights.h"

#include <random>
#include <vector>

#include "kernels/element_weights.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::vector<float> Expanded(const ColumnWeights& weights, std::uint64_t first, std::size_t count) {
  std::vector<float> out(count, -1.0f);
  weights.Expand(first, out);
  return out;
}

}  // namespace

TEST_CASE("an element counts as the feature that it meets") {
  const std::vector<float> moments = {1, 2, 3};  // mean 2
  const ColumnWeights straight(moments, {2, 3}, false), turned(moments, {3, 2}, true);
  CHECK(Expanded(straight, 0, 6) == std::vector<float>{.5, 1, 1.5, .5, 1, 1.5});
  CHECK(Expanded(turned, 0, 6) == std::vector<float>{.5, .5, 1, 1, 1.5, 1.5});
  for (const ColumnWeights* weights : {&straight, &turned}) {
    const std::vector<float> all = Expanded(*weights, 0, 6);
    for (std::size_t first = 0; first < 6; ++first) {
      for (std::size_t count = 0; first + count <= 6; ++count) {
        const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
        CHECK(Expanded(*weights, first, count) ==
              std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(count)));
      }
    }
  }
}

TEST_CASE("matrices of a stack have features of their own") {
  const std::vector<float> moments = {1, 3, 0, 0, 4, 4};  // the second has none: nothing is known
  CHECK(Expanded(ColumnWeights(moments, {3, 1, 2}, false), 0, 6) == std::vector<float>{.5, 1.5, 1, 1, 1, 1});
  CHECK(Expanded(ColumnWeights(moments, {3, 2, 2}, true), 2, 5) == std::vector<float>{1.5, 1.5, 1, 1, 1});
}

// What GPUs are given: part of the features, and where the first element lies.
TEST_CASE("weights of a part are found by the place of its elements") {
  std::mt19937 random(1);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t matrices = 1 + below(4), rows = 1 + below(9), columns = 1 + below(40);
    const bool transposed = round % 2 == 0;
    std::vector<float> moments(matrices * (transposed ? rows : columns));
    for (float& moment : moments) moment = static_cast<float>(1 + below(1000));
    const ColumnWeights weights(moments, {matrices, rows, columns}, transposed);
    const std::uint64_t all = matrices * rows * columns, first = below(all), count = 1 + below(all - first);
    const ColumnWeights::Part part = weights.PartOf(first, count);
    const ElementWeights place = {part.features.data(),
                                  part.rows,
                                  static_cast<std::uint32_t>(part.columns),
                                  static_cast<std::uint32_t>(part.column),
                                  part.row,
                                  transposed};
    const std::vector<float> expected = Expanded(weights, first, count);
    bool same = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t feature = FeatureOf(place, i);
      same = same && feature < part.features.size() && part.features[feature] == expected[i];
    }
    INFO("round " << round);
    CHECK(same);
    CHECK(FeatureOf(place, static_cast<std::uint32_t>(count - 1)) + (transposed ? 1 : columns) >= part.features.size());
  }
}

TEST_CASE("every feature counts something, and equal ones count 1") {
  const std::vector<float> one_alive = {0, 0, 0, 3e38f}, equal(1000, 0.1f), least(3, 1e-45f);
  CHECK(Expanded(ColumnWeights(one_alive, {1, 4}, false), 0, 4) == std::vector<float>{0x1p-20f, 0x1p-20f, 0x1p-20f, 4});
  CHECK(Expanded(ColumnWeights(equal, {1, 1000}, false), 0, 1000) == std::vector<float>(1000, 1));
  CHECK(Expanded(ColumnWeights(least, {1, 3}, false), 0, 3) == std::vector<float>(3, 1));
}

}  // namespace q4
