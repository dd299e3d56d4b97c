// Which tensors go into which shard, and in which order a shard lists them: one rule for a conversion and for repacking
// its result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "formats/q4/container.h"

namespace q4 {

// What a tensor occupies in the file without compression: its share when shards are cut. With compression shards are
// cut at the same tensors, since sizes must be known beforehand.
std::uint64_t StoredBytes(const Q4Tensor& tensor);

// Cuts tensors into shards in the order in which they come, never within one.
class ShardCut {
 public:
  // Most bytes of a shard, of StoredBytes(); 0: one shard.
  explicit ShardCut(std::uint64_t shard_bytes) : shard_bytes_(shard_bytes) {}

  // Takes the next tensor. Whether it begins another shard; the first tensor of a shard is taken whatever its size.
  bool Begins(const Q4Tensor& tensor) { return Begins(StoredBytes(tensor)); }
  // The same of what is not cut at all: `bytes` of tensors that stay together.
  bool Begins(std::uint64_t bytes);

 private:
  const std::uint64_t shard_bytes_;
  std::uint64_t payload_ = 0;  // of the shard so far
};

// Sorts entries by name, as the format asks. Returns the new place of each: entry i now lies at result[i].
std::vector<std::size_t> SortByName(std::vector<Q4Tensor>* entries);

}  // namespace q4
