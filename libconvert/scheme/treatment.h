// How people are told what became of a tensor: one short phrase, the same in every report, plan and diff. JSON has the
// fields apart instead.
#pragma once

#include <string>

#include "formats/q4/container.h"

namespace q4 {

// "nf4 b64 dq", "fp4 b128"; of an unquantized tensor its dtype, "BF16". Type, block size, "dq" for nested scales, and
// the encoder unless it is absmax.
std::string TreatmentName(const Q4Tensor& tensor);

}  // namespace q4
