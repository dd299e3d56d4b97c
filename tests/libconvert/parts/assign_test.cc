#include "libconvert/parts/assign.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/support/catch.h"

namespace q4 {
namespace {

std::uint64_t SumOf(const std::vector<std::uint64_t>& bytes, const ShardRange& range) {
  return std::accumulate(bytes.begin() + static_cast<std::ptrdiff_t>(range.first),
                         bytes.begin() + static_cast<std::ptrdiff_t>(range.second), std::uint64_t{0});
}

// The least largest run, by trying all cuts.
std::uint64_t Best(const std::vector<std::uint64_t>& bytes, std::size_t first, std::uint64_t parts) {
  std::uint64_t sum = 0, best = UINT64_MAX;
  if (parts == 1) return SumOf(bytes, {first, bytes.size()});
  for (std::size_t end = first; end <= bytes.size(); ++end) {
    best = std::min(best, std::max(sum, Best(bytes, end, parts - 1)));
    if (end < bytes.size()) sum += bytes[end];
  }
  return best;
}

TEST_CASE("parts are runs that hold every shard once, none where another has two, and as even as can be") {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::uint64_t> bytes(1 + random() % 9);
    for (std::uint64_t& shard : bytes) shard = random() % 4 == 0 ? 0 : random() % 100;
    const std::uint64_t count = 1 + random() % 6;
    const std::vector<ShardRange> parts = AssignShards(bytes, count);
    REQUIRE(parts.size() == count);
    std::size_t next = 0;
    std::uint64_t largest = 0, empty = 0;
    for (const ShardRange& part : parts) {
      REQUIRE(part.first == next);
      REQUIRE(part.second >= part.first);
      next = part.second;
      largest = std::max(largest, SumOf(bytes, part));
      empty += part.first == part.second;
    }
    CHECK(next == bytes.size());
    CHECK(largest == Best(bytes, 0, count));
    CHECK(empty == (count > bytes.size() ? count - bytes.size() : 0));
  }
}

TEST_CASE("numbers are written as schedulers take them") {
  CHECK(ArrayText({}).empty());
  CHECK(ArrayText({3}) == "3");
  CHECK(ArrayText({3, 7, 8, 9}) == "3,7-9");
  CHECK(ArrayText({0, 1, 4, 5, 6, 9}) == "0,1,4-6,9");
}

}  // namespace
}  // namespace q4
