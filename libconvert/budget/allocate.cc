// Sums of bits are exact. Sums of errors are added in the order of items wherever they are compared with a limit, so
// that a limit holds for the sum that is reported, to the last bit.
#include "libconvert/budget/allocate.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <queue>
#include <tuple>

namespace q4 {
namespace {

constexpr double kFree = std::numeric_limits<double>::infinity();

// One step along an item's hull, from one of its options to the next.
struct Step {
  std::size_t item, to;
  std::uint64_t bits;  // that it costs
  double error;        // that it takes away
  double worth;        // error for each bit
};

// All steps of all items, most worth first. Those of an item stay in order: worth falls along a hull.
std::vector<Step> StepsOf(const std::vector<AllocatorItem>& items, Allocation* cheapest) {
  std::vector<Step> steps;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::vector<std::size_t> hull = LowerHull(items[i]);
    cheapest->chosen.push_back(hull.front());
    for (std::size_t at = 1; at < hull.size(); ++at) {
      const AllocatorOption &from = items[i][hull[at - 1]], &to = items[i][hull[at]];
      const std::uint64_t bits = to.bits - from.bits;
      const double error = from.error - to.error;
      steps.push_back({i, hull[at], bits, error, error / static_cast<double>(bits)});
    }
  }
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.worth > b.worth; });
  return steps;
}

void AddUp(const std::vector<AllocatorItem>& items, Allocation* allocation) {
  allocation->bits = 0;
  allocation->error = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    allocation->bits += items[i][allocation->chosen[i]].bits;
    allocation->error += items[i][allocation->chosen[i]].error;
  }
}

// What an item could still do: take another option, for a price that is left.
struct Move {
  double worth, gain;
  std::size_t item, to;
  double price;

  bool operator==(const Move& other) const { return item == other.item && to == other.to; }
  // Less urgent is less: std::priority_queue has the largest on top.
  bool operator<(const Move& other) const {
    return std::tuple(worth, gain, other.item, other.to) < std::tuple(other.worth, other.gain, item, to);
  }
};

// Takes the move that is worth most again and again, as long as one fits. `gain_of` and `price_of` are given two
// options, from and to. What is left only shrinks, so that a move that does not fit will never fit.
template <typename Gain, typename Price>
void Fill(const std::vector<AllocatorItem>& items, double left, const Gain& gain_of, const Price& price_of,
          std::vector<std::size_t>* chosen) {
  const auto best_of = [&](std::size_t item) {
    std::optional<Move> best;
    const AllocatorOption& from = items[item][(*chosen)[item]];
    for (std::size_t to = 0; to < items[item].size(); ++to) {
      const double gain = gain_of(from, items[item][to]), price = price_of(from, items[item][to]);
      if (!(gain > 0) || price > left) continue;
      const Move move{price > 0 ? gain / price : kFree, gain, item, to, price};
      if (!best || *best < move) best = move;
    }
    return best;
  };
  std::priority_queue<Move> moves;
  for (std::size_t item = 0; item < items.size(); ++item) {
    if (const std::optional<Move> move = best_of(item)) moves.push(*move);
  }
  while (!moves.empty()) {
    const Move move = moves.top();
    moves.pop();
    // It may have been found when more was left.
    const std::optional<Move> now = best_of(move.item);
    if (now && *now == move) {
      (*chosen)[move.item] = move.to;
      left -= move.price;
      if (const std::optional<Move> next = best_of(move.item)) moves.push(*next);
    } else if (now) {
      moves.push(*now);
    }
  }
}

double BitsUp(const AllocatorOption& from, const AllocatorOption& to) {
  return static_cast<double>(to.bits) - static_cast<double>(from.bits);
}
double ErrorDown(const AllocatorOption& from, const AllocatorOption& to) { return from.error - to.error; }

}  // namespace

std::vector<std::size_t> LowerHull(const AllocatorItem& item) {
  std::vector<std::size_t> order(item.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(item[a].bits, item[a].error) < std::tuple(item[b].bits, item[b].error);
  });
  const auto worth = [&](std::size_t from, std::size_t to) {
    return (item[from].error - item[to].error) / static_cast<double>(item[to].bits - item[from].bits);
  };
  std::vector<std::size_t> hull;
  for (const std::size_t next : order) {
    // More bits must buy something. (Of equal bits, the one with the least error came first.)
    if (!hull.empty() && item[next].error >= item[hull.back()].error) continue;
    // A point above the line between its neighbours is never worth it; one on the line is a smaller step.
    while (hull.size() >= 2 && worth(hull[hull.size() - 2], hull.back()) < worth(hull.back(), next)) hull.pop_back();
    hull.push_back(next);
  }
  return hull;
}

AllocatorRange RangeOf(const std::vector<AllocatorItem>& items) {
  AllocatorRange range;
  for (const AllocatorItem& item : items) {
    const std::vector<std::size_t> hull = LowerHull(item);
    range.least_bits += item[hull.front()].bits;
    range.most_error += item[hull.front()].error;
    range.most_bits += item[hull.back()].bits;
    range.least_error += item[hull.back()].error;
  }
  return range;
}

Allocation WithinBits(const std::vector<AllocatorItem>& items, std::uint64_t bits) {
  Allocation allocation;
  const std::vector<Step> steps = StepsOf(items, &allocation);
  AddUp(items, &allocation);
  std::uint64_t left = bits - allocation.bits;
  std::size_t taken = 0;
  for (; taken < steps.size() && steps[taken].bits <= left; ++taken) {
    allocation.chosen[steps[taken].item] = steps[taken].to;
    left -= steps[taken].bits;
  }
  AddUp(items, &allocation);
  // As if a part of the next step could be taken.
  allocation.bound = allocation.error;
  if (taken < steps.size()) allocation.bound -= steps[taken].worth * static_cast<double>(left);
  Fill(items, static_cast<double>(left), ErrorDown, BitsUp, &allocation.chosen);
  AddUp(items, &allocation);
  return allocation;
}

Allocation WithinError(const std::vector<AllocatorItem>& items, double error) {
  Allocation allocation;
  const std::vector<Step> steps = StepsOf(items, &allocation);
  const std::vector<std::size_t> cheapest = allocation.chosen;
  // After the first `count` steps, with the sum of errors as AddUp() makes it.
  const auto after = [&](std::size_t count) {
    Allocation reached;
    reached.chosen = cheapest;
    for (std::size_t i = 0; i < count; ++i) reached.chosen[steps[i].item] = steps[i].to;
    AddUp(items, &reached);
    return reached;
  };
  // The sum falls with every step.
  std::size_t enough = steps.size(), too_few = 0;
  if (after(0).error <= error) {
    enough = 0;
  } else {
    while (enough - too_few > 1) {
      const std::size_t middle = too_few + (enough - too_few) / 2;
      (after(middle).error <= error ? enough : too_few) = middle;
    }
  }
  allocation = after(enough);
  double bound = static_cast<double>(allocation.bits);
  // As if only a part of the last step were taken.
  if (enough > 0) bound -= std::max(error - allocation.error, 0.0) / steps[enough - 1].worth;
  // Some way below there may be a budget whose filling is within the error, too.
  std::uint64_t too_small = after(enough == 0 ? 0 : enough - 1).bits;
  while (allocation.bits - too_small > 1) {
    const std::uint64_t bits = too_small + (allocation.bits - too_small) / 2;
    Allocation smaller = WithinBits(items, bits);
    if (smaller.error <= error) {
      allocation = std::move(smaller);
    } else {
      too_small = bits;
    }
  }
  // What is left of the error is spent on fewer bits. Added up in another order, it may be too much by a rounding.
  Allocation filled = allocation;
  const auto bits_down = [](const AllocatorOption& from, const AllocatorOption& to) { return -BitsUp(from, to); };
  const auto error_up = [](const AllocatorOption& from, const AllocatorOption& to) { return -ErrorDown(from, to); };
  Fill(items, std::max(error - allocation.error, 0.0), bits_down, error_up, &filled.chosen);
  AddUp(items, &filled);
  if (filled.error <= error) allocation = std::move(filled);
  allocation.bound = bound;
  return allocation;
}

}  // namespace q4
