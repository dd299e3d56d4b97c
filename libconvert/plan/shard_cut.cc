#include "libconvert/plan/shard_cut.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "formats/q4/parts.h"

namespace q4 {

std::uint64_t StoredBytes(const Q4Tensor& tensor) {
  std::uint64_t bytes = 0;
  for (const Q4Part part : Q4PartKindsOf(tensor)) bytes += Q4PartRawBytes(tensor, part);
  return bytes;
}

bool ShardCut::Begins(std::uint64_t bytes) {
  const bool begins = shard_bytes_ != 0 && payload_ != 0 && payload_ + bytes > shard_bytes_;
  payload_ = begins ? bytes : payload_ + bytes;
  return begins;
}

std::vector<std::size_t> SortByName(std::vector<Q4Tensor>* entries) {
  // order[to] is the entry that comes to lie at `to`.
  std::vector<std::size_t> order(entries->size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return (*entries)[a].name < (*entries)[b].name; });
  std::vector<Q4Tensor> sorted(entries->size());
  std::vector<std::size_t> places(entries->size());
  for (std::size_t to = 0; to < order.size(); ++to) {
    sorted[to] = std::move((*entries)[order[to]]);
    places[order[to]] = to;
  }
  *entries = std::move(sorted);
  return places;
}

}  // namespace q4
