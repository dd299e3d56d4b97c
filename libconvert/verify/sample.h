// Which slabs of a tensor are compared when not all are (q4verify --sample). A sample makes a check of a large model
// cheap and still finds a systematic fault with certainty and a local one with a known probability.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/base/digest.h"

namespace q4 {

// The choice depends on the seed, the container's root, the tensor and the slab alone. Whoever makes a container must
// not know which slabs will be compared: the seed is drawn when it is verified, and repeats the choice where it is
// given again. Immutable and thread-safe.
class SlabSample {
 public:
  // `root` is that of the whole model. `percent` in (0, 100]: each slab is chosen with this probability.
  SlabSample(const Sha256& root, double percent, std::uint64_t seed) : root_(root), percent_(percent), seed_(seed) {}

  std::uint64_t seed() const { return seed_; }

  // Whether every slab of every tensor is chosen, which lets tensors be judged whole.
  bool takes_all() const { return percent_ >= 100; }

  // The chosen slabs among the `count` slabs of the tensor of that name, ascending; at least one, so that every tensor
  // is looked at. REQUIRES: count >= 1. Costs one short hash a slab.
  std::vector<std::uint64_t> SlabsOf(std::string_view tensor, std::uint64_t count) const;

 private:
  Sha256 root_;
  double percent_;
  std::uint64_t seed_;
};

}  // namespace q4
