// By how much two tensors differ, element by element: what "content differs" means in a comparison of two models.
// Numbers are compared as a loader gets them, so the two may be stored in different ways.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/kernels.h"
#include "libconvert/model/stored_tensor.h"

namespace q4 {

// Of the decoded values, widened to fp64: a is one of the left tensor's, b the right one's of the same index.
struct TensorDelta {
  // Decoded values that are not equal bit for bit in fp32.
  std::uint64_t differing_elems = 0;
  // S((a-b)^2) / S(a^2), simple sums in element order; 0 or infinity when S(a^2) is 0. Not the NMSE of numerics Q8,
  // whose sums are defined to the last bit: this one is for people.
  double nmse = 0;
  // Largest |a-b|; differences that are NaN are not counted.
  double max_abs = 0;
  // The first element with it; 0 when no element differs.
  std::uint64_t max_abs_index = 0;
  // How many codes and how many decoded scales are not equal bit for bit. Only of two tensors with the same scheme and
  // block size, where codes and scales mean the same elements; else nullopt.
  std::optional<std::uint64_t> differing_codes, differing_scales;
};

// Decodes both tensors and compares them. nullopt unless both have the same shape and hold, or decode to, F32, F16 or
// BF16. Reads both whole, on the calling thread, and holds all scales and a slab of 4 Mi elements of each. REQUIRES:
// the canonical float environment. Errors: a damaged chunk of a container (exit code 6), I/O (2).
absl::StatusOr<std::optional<TensorDelta>> CompareDecoded(const KernelTable& kernels, const ReadableTensor& a,
                                                          const ReadableTensor& b);

}  // namespace q4
