// The least bound under which a greedy cut needs no more than `count` runs is found by halving; then the cut is made,
// leaving a shard for each part that follows.
#include "libconvert/parts/assign.h"

#include <algorithm>
#include <numeric>

namespace q4 {
namespace {

bool Fits(std::span<const std::uint64_t> bytes, std::uint64_t count, std::uint64_t bound) {
  std::uint64_t runs = 1, sum = 0;
  for (const std::uint64_t shard : bytes) {
    if (shard > bound) return false;
    if (sum + shard > bound) {
      ++runs;
      sum = 0;
    }
    sum += shard;
  }
  return runs <= count;
}

}  // namespace

std::vector<ShardRange> AssignShards(std::span<const std::uint64_t> bytes, std::uint64_t count) {
  std::uint64_t low = 0, high = std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    Fits(bytes, count, middle) ? high = middle : low = middle + 1;
  }
  std::vector<ShardRange> parts;
  parts.reserve(count);
  std::size_t next = 0;
  for (std::uint64_t part = 0; part < count; ++part) {
    const std::size_t first = next;
    const std::uint64_t behind = count - part - 1;  // parts
    std::uint64_t sum = 0;
    // The last part takes what is left, which fits; a part always takes one if there is one.
    while (next < bytes.size() &&
           (next == first || behind == 0 || (sum + bytes[next] <= low && bytes.size() - next > behind))) {
      sum += bytes[next++];
    }
    parts.emplace_back(first, next);
  }
  return parts;
}

std::string ArrayText(const std::vector<std::uint64_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last != i) text += (last == i + 1 ? "," : "-") + std::to_string(numbers[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace q4
