// The encoder `absmax` (docs/numerics.md Q4): a block's scale is its largest magnitude, and each code the nearest one
// under that scale. It is the default, costs one pass over the elements, and its arithmetic is that of the kernels, so
// q4verify can recompute every bit. Other encoders stand beside it, each in a file of its own (encoder.h).
#pragma once

#include "libconvert/encode/encoder.h"

namespace q4 {

// The one object of this encoder; it lives as long as the process. Callers reach it by number through FindEncoder().
const Encoder& AbsmaxEncoder();

}  // namespace q4
