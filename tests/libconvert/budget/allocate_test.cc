// The allocator against every choice there is, on problems small enough to try them all.
#include "libconvert/budget/allocate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "tests/support/catch.h"

namespace q4 {
namespace {

// Items with options of all kinds: dominated ones, equal ones, ones above the hull.
std::vector<AllocatorItem> RandomItems(std::mt19937* random, std::size_t most_items, std::size_t most_options) {
  std::vector<AllocatorItem> items(1 + (*random)() % most_items);
  for (AllocatorItem& item : items) {
    item.resize(1 + (*random)() % most_options);
    for (AllocatorOption& option : item) {
      option.bits = 1 + (*random)() % 40;
      // Few distinct values, so that ties are common.
      option.error = static_cast<double>((*random)() % 64) / 64;
    }
  }
  return items;
}

// Calls `visit` with the sums of each choice. Errors are multiples of 1/64, so that their sums are exact.
void EachChoice(const std::vector<AllocatorItem>& items, const std::function<void(std::uint64_t, double)>& visit) {
  std::vector<std::size_t> chosen(items.size());
  while (true) {
    std::uint64_t bits = 0;
    double error = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      bits += items[i][chosen[i]].bits;
      error += items[i][chosen[i]].error;
    }
    visit(bits, error);
    std::size_t i = 0;
    while (i < items.size() && ++chosen[i] == items[i].size()) chosen[i++] = 0;
    if (i == items.size()) return;
  }
}

// The largest step along any hull, in error and in bits: how far a greedy end can be from the best.
AllocatorOption LargestStep(const std::vector<AllocatorItem>& items) {
  AllocatorOption largest;
  for (const AllocatorItem& item : items) {
    const std::vector<std::size_t> hull = LowerHull(item);
    for (std::size_t at = 1; at < hull.size(); ++at) {
      largest.error = std::max(largest.error, item[hull[at - 1]].error - item[hull[at]].error);
      largest.bits = std::max(largest.bits, item[hull[at]].bits - item[hull[at - 1]].bits);
    }
  }
  return largest;
}

void CheckSums(const std::vector<AllocatorItem>& items, const Allocation& allocation) {
  REQUIRE(allocation.chosen.size() == items.size());
  std::uint64_t bits = 0;
  double error = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    REQUIRE(allocation.chosen[i] < items[i].size());
    bits += items[i][allocation.chosen[i]].bits;
    error += items[i][allocation.chosen[i]].error;
  }
  CHECK(allocation.bits == bits);
  CHECK(allocation.error == error);
}

TEST_CASE("a hull has the options that some lambda would take, and no other") {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const AllocatorItem item = RandomItems(&random, 1, 12).front();
    const std::vector<std::size_t> hull = LowerHull(item);
    REQUIRE(!hull.empty());
    for (std::size_t at = 1; at < hull.size(); ++at) {
      CHECK(item[hull[at - 1]].bits < item[hull[at]].bits);
      CHECK(item[hull[at - 1]].error > item[hull[at]].error);
    }
    for (const double lambda : {0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0}) {
      const auto cost = [&](std::size_t o) { return item[o].error + lambda * static_cast<double>(item[o].bits); };
      double best = cost(0), on_hull = cost(hull.front());
      for (std::size_t o = 0; o < item.size(); ++o) best = std::min(best, cost(o));
      for (const std::size_t o : hull) on_hull = std::min(on_hull, cost(o));
      CHECK(on_hull <= best + 1e-12);
    }
  }
  CHECK(LowerHull({{8, 1}, {8, 0.5}, {8, 0.5}}) == std::vector<std::size_t>{1});
  CHECK(LowerHull({{4, 1}, {6, 0.9}, {8, 0}}) == std::vector<std::size_t>{0, 2});
  CHECK(LowerHull({{4, 1}, {6, 0.5}, {8, 0}}) == std::vector<std::size_t>{0, 1, 2});  // on the line
}

TEST_CASE("within bits: never more, at most one step from the best of all choices") {
  std::mt19937 random(11);
  double worse = 0;
  for (int round = 0; round < 400; ++round) {
    const std::vector<AllocatorItem> items = RandomItems(&random, 5, 6);
    const AllocatorRange range = RangeOf(items);
    const std::uint64_t budget = range.least_bits + random() % (range.most_bits - range.least_bits + 3);
    const Allocation allocation = WithinBits(items, budget);
    CheckSums(items, allocation);
    REQUIRE(allocation.bits <= budget);
    double best = 1e9;
    EachChoice(items, [&](std::uint64_t bits, double error) {
      if (bits <= budget) best = std::min(best, error);
    });
    CHECK(allocation.error >= best);
    CHECK(allocation.bound <= best + 1e-12);
    CHECK(allocation.error - best <= LargestStep(items).error);
    worse += allocation.error > best;
    if (budget >= range.most_bits) CHECK(allocation.error == range.least_error);
  }
  CHECK(worse < 100);  // of 400: the rest is the best there is
}

TEST_CASE("within an error: never more, at most one step from the fewest bits of all choices") {
  std::mt19937 random(13);
  for (int round = 0; round < 400; ++round) {
    const std::vector<AllocatorItem> items = RandomItems(&random, 5, 6);
    const AllocatorRange range = RangeOf(items);
    const double target =
        range.least_error + (range.most_error - range.least_error) * static_cast<double>(random() % 9) / 8;
    const Allocation allocation = WithinError(items, target);
    CheckSums(items, allocation);
    REQUIRE(allocation.error <= target);
    std::uint64_t best = ~std::uint64_t{0};
    EachChoice(items, [&](std::uint64_t bits, double error) {
      if (error <= target) best = std::min(best, bits);
    });
    CHECK(allocation.bits >= best);
    CHECK(allocation.bound <= static_cast<double>(best) + 1e-9);
    CHECK(allocation.bits - best <= LargestStep(items).bits);
  }
}

TEST_CASE("what is left over is filled, with options off the hull too") {
  // The first step of both items fits once; a smaller option of the other, above its hull, still does.
  const std::vector<AllocatorItem> items = {{{10, 1}, {20, 0}}, {{10, 1}, {15, 0.9}, {20, 0.1}}};
  const Allocation allocation = WithinBits(items, 35);
  CHECK(allocation.chosen == std::vector<std::size_t>{1, 1});
  CHECK(allocation.bits == 35);
}

TEST_CASE("ties go to the item that comes first, whatever else there is") {
  const AllocatorItem item = {{10, 1}, {20, 0.5}};
  const std::vector<AllocatorItem> items(6, item);
  for (std::uint64_t bits = 60; bits <= 120; ++bits) {
    const Allocation allocation = WithinBits(items, bits);
    for (std::size_t i = 0; i < items.size(); ++i) CHECK(allocation.chosen[i] == (i < (bits - 60) / 10 ? 1u : 0u));
  }
}

TEST_CASE("many items are chosen for in little time") {
  std::mt19937 random(17);
  std::vector<AllocatorItem> items(20000);
  for (AllocatorItem& item : items) {
    const double scale = std::exp(static_cast<double>(random() % 1000) / 200);
    for (int o = 0; o < 17; ++o) {
      item.push_back({4096 + random() % 8192, scale * static_cast<double>(random() % 65536)});
    }
  }
  const AllocatorRange range = RangeOf(items);
  const std::uint64_t budget = (range.least_bits + range.most_bits) / 2;
  const Allocation within = WithinBits(items, budget);
  CHECK(within.bits <= budget);
  CHECK(within.error >= within.bound);
  const Allocation dual = WithinError(items, within.error);
  CHECK(dual.error <= within.error);
  CHECK(static_cast<double>(dual.bits) >= dual.bound);
}

}  // namespace
}  // namespace q4
