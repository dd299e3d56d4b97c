// By how much two tensors differ, element by element.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/kernels.h"
#include "libconvert/model/stored_tensor.h"

namespace q4 {

// Of the decoded values, widened to fp64: a is one of the left tensor's, b the right one's of the same index.
struct TensorDelta {
  std::uint64_t differing_elems = 0;  // decoded values that are not equal bit for bit
  double nmse = 0;                  // S((a-b)^2) / S(a^2), plain sums in element order; 0 or infinity when S(a^2) is 0
  double max_abs = 0;               // largest |a-b|; NaN differences are not counted
  std::uint64_t max_abs_index = 0;  // the first with it
  // Only of two tensors with the same scheme and block size.
  std::optional<std::uint64_t> differing_codes, differing_scales;  // scales: decoded ones
};

// nullopt unless both have the same shape and hold, or decode to, F32, F16 or BF16. Reads both whole and holds all
// scales and a slab of 4 Mi elements of each. Errors: a damaged chunk of a container (exit code 6), I/O (2).
absl::StatusOr<std::optional<TensorDelta>> CompareDecoded(const KernelTable& kernels, const ReadableTensor& a,
                                                          const ReadableTensor& b);

}  // namespace q4
