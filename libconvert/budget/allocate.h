// The allocator: of each item one of its options, so that all together keep within a number of bits, or within an
// error. Pure arithmetic over numbers that somebody else has measured; knows neither tensors nor files.
//
// What it finds: each item's options form a lower convex hull over bits and error. Going along the hulls in the order
// of what a bit buys is minimising error + lambda * bits for falling lambda (one Lagrange multiplier for all). It ends
// at the first step that does not fit; what is left over is filled greedily. The result is at most that one step away
// from the best there is.
//
// Deterministic: steps that buy the same are taken in the order of items, within an item in that of bits; of options
// with equal bits and error the first in the list is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace q4 {

struct AllocatorOption {
  std::uint64_t bits = 0;
  double error = 0;  // finite, not negative
};

// At least one option.
using AllocatorItem = std::vector<AllocatorOption>;

struct Allocation {
  std::vector<std::size_t> chosen;  // by item: which of its options
  // Sums over the items, in their order.
  std::uint64_t bits = 0;
  double error = 0;
  // What no choice of options can do better than: less error within the same bits, or fewer bits within the same error.
  double bound = 0;
};

// What there is to choose from. The least bits come with the most error that anybody would accept, and the other way
// round; of options with equal bits the one with the least error counts.
struct AllocatorRange {
  std::uint64_t least_bits = 0, most_bits = 0;
  double least_error = 0, most_error = 0;
};
AllocatorRange RangeOf(const std::vector<AllocatorItem>& items);

// The options of `item` on its lower convex hull, by rising bits and falling error. At least one.
std::vector<std::size_t> LowerHull(const AllocatorItem& item);

// The least error with at most `bits`. REQUIRES: bits >= RangeOf(items).least_bits.
Allocation WithinBits(const std::vector<AllocatorItem>& items, std::uint64_t bits);

// The fewest bits with at most `error`: the same, and where a smaller number of bits with its filling is enough, that.
// REQUIRES: error >= RangeOf(items).least_error.
Allocation WithinError(const std::vector<AllocatorItem>& items, double error);

}  // namespace q4
