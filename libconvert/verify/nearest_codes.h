// Whether the codes of a piece are the nearest under given scales, up to ties (EncoderProof): what is left to prove
// where an encoder chose the scales in a way that is not known here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/q4/container.h"
#include "kernels/kernels.h"
#include "libconvert/verify/slab.h"

namespace q4 {

// Looks at one piece of one tensor. Refers to what it is made with. Not thread-safe; the calling thread has the
// canonical float environment.
class NearestCodes {
 public:
  // `source`: elements of the tensor's dtype, from element `first_elem` of the tensor on, which begins a block. `codes`
  // as many as there are, two to a byte.
  NearestCodes(const KernelTable& kernels, const Q4Tensor& tensor, std::uint64_t first_elem,
               std::span<const std::uint8_t> source, const std::uint8_t* codes)
      : kernels_(kernels), tensor_(tensor), first_elem_(first_elem), source_(source), codes_(codes) {}

  // Whether all are, by statistics of the piece under `scales`, which cost nothing more, and a look at the blocks that
  // have elements beyond their scale. `largest` has the largest magnitude of each block. False may still be right but
  // for ties.
  bool AllUnder(std::span<const float> scales, std::span<const float> largest, const SlabStats& stats) const;
  // The exact answer, element by element and slow.
  Difference NotNearest(std::span<const float> scales) const;

 private:
  std::vector<float> Widened() const;

  const KernelTable& kernels_;
  const Q4Tensor& tensor_;
  const std::uint64_t first_elem_;
  const std::span<const std::uint8_t> source_;
  const std::uint8_t* const codes_;
};

}  // namespace q4
