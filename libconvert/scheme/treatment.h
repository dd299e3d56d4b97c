// How people are told what became of a tensor: one short phrase, the same in every report, plan and diff. JSON has the
// fields apart instead.
#pragma once

#include <string>

#include "formats/q4/container.h"

namespace q4 {

// The encoder that a treatment's name tells, or kNone: that of absmax, which everybody expects, is left out.
Q4Encoder EncoderInName(const Q4Tensor& tensor);

// "nf4 b64 dq", "fp4 b128", "nf4 b64 mse"; of an unquantized tensor its dtype, "BF16". Type, block size, "dq" for
// nested scales, and the encoder unless it is absmax.
std::string TreatmentName(const Q4Tensor& tensor);

}  // namespace q4
