// The encoder `mse` (docs/numerics.md Q9): a block's scale, of either sign, is the one of a few candidates whose
// nearest codes lose least, and never one that loses more than absmax. Every reader of the format and of bitsandbytes
// decodes it, because all of them multiply a code's value by the scale. It needs no data but the weights.
#pragma once

#include "libconvert/encode/encoder.h"

namespace q4 {

// The one object of this encoder; it lives as long as the process. Callers reach it by number through FindEncoder().
const Encoder& MseEncoder();

}  // namespace q4
