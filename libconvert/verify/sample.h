// Which slabs of a tensor are compared when not all are (q4verify --sample). A sample makes a check of a large model
// cheap and still finds a systematic fault with certainty and a local one with a known probability.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/base/digest.h"

namespace q4 {

// The choice depends on the container's root, the tensor and the slab alone. So the same container is sampled alike
// everywhere; and since the root follows from the content, whoever makes a container cannot know while making it which
// slabs will be compared. Immutable and thread-safe.
class SlabSample {
 public:
  // `root` is that of the whole model. `percent` in (0, 100]: each slab is chosen with this probability.
  SlabSample(const Sha256& root, double percent) : root_(root), percent_(percent) {}

  // Whether every slab of every tensor is chosen, which lets tensors be judged whole.
  bool takes_all() const { return percent_ >= 100; }

  // The chosen slabs among the `count` slabs of the tensor of that name, ascending; at least one, so that every tensor
  // is looked at. REQUIRES: count >= 1. Costs one short hash a slab.
  std::vector<std::uint64_t> SlabsOf(std::string_view tensor, std::uint64_t count) const;

 private:
  Sha256 root_;
  double percent_;
};

}  // namespace q4
