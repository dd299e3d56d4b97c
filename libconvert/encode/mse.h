// The encoders `mse` and `weighted` (docs/numerics.md Q9, Q16): a block's scale, of either sign, is the one of a few
// candidates whose nearest codes lose least, and never one that loses more than absmax. Every reader of the format and
// of bitsandbytes decodes it, because all of them multiply a code's value by the scale. `mse` needs no data but the
// weights; `weighted` counts the error of an element as the input of its column does (SlabShape::weights).
#pragma once

#include "libconvert/encode/encoder.h"

namespace q4 {

// The one object of each encoder; they live as long as the process. Callers reach them by number through FindEncoder().
const Encoder& MseEncoder();
const Encoder& WeightedEncoder();
// The scales of `weighted` and their nearest codes, as what `feedback` begins with (feedback.h).
const Encoder& FeedbackEncoder();

}  // namespace q4
