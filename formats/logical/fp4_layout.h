// Whether shapes of 4-bit codes and of their scales belong together, and what they make. Internal to formats/logical/.
#pragma once

#include "formats/tensor/source_tensor.h"

namespace q4 {

// How a dialect lays out its codes.
enum class F4Form : std::uint8_t {
  kMatrix,      // [..., R, C/2], or of experts [E, R/2, C] with scales along R too
  kBlocks,      // [R, G, b/2] or [E, R, G, b/2]
  kTransposed,  // [E, R, G, b/2], of which the weight is [E, G*b, R]
};

// Sets `shape` to that of the weight, and order, block, rows and columns of `out`. `block`: elements that share a
// scale. False when the shapes do not fit.
[[nodiscard]] bool FitF4(F4Form form, const Shape& codes, const Shape& scale, std::uint64_t block, Shape* shape,
                         PackedF4* out);

// The same for the scale of whole matrices: one, or one for each of experts in one tensor. Sets global_step of `out`.
[[nodiscard]] bool FitF4Global(const Shape& shape, const Shape& global, PackedF4* out);

}  // namespace q4
