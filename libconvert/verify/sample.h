// Which slabs of a tensor are compared when only a part is (q4verify --sample).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/base/digest.h"

namespace q4 {

// The choice depends on the container's root, the tensor and the slab alone. So the same container is sampled alike
// everywhere; and since the root follows from the content, whoever makes a container cannot know while making it which
// slabs will be compared.
class SlabSample {
 public:
  // `percent` in (0, 100].
  SlabSample(const Sha256& root, double percent) : root_(root), percent_(percent) {}

  bool takes_all() const { return percent_ >= 100; }

  // The chosen slabs among `count` of the tensor, ascending; never none.
  std::vector<std::uint64_t> SlabsOf(std::string_view tensor, std::uint64_t count) const;

 private:
  Sha256 root_;
  double percent_;
};

}  // namespace q4
