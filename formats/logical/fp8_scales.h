// Which scale belongs to which element of a weight: shapes. Internal to this wing.
#pragma once

#include "formats/logical/fp8_section.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// Sets rows, columns, blocks and steps of `out` for a weight of shape `weight` with scales of shape `scale`, by the
// rule of fp8.h. False when they do not fit.
[[nodiscard]] bool FitScales(const Shape& weight, const Shape& scale, const Fp8Section& section, ScaledF8* out);

}  // namespace q4
