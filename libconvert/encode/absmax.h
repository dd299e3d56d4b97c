// The encoder `absmax` (docs/numerics.md Q4): a block's scale is its largest magnitude, and each code the nearest one.
#pragma once

#include "libconvert/encode/encoder.h"

namespace q4 {

const Encoder& AbsmaxEncoder();

}  // namespace q4
