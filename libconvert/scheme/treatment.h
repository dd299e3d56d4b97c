// How people are told what became of a tensor.
#pragma once

#include <string>

#include "formats/q4/container.h"

namespace q4 {

// "nf4 b64 dq", "fp4 b128"; of an unquantized tensor its dtype, "BF16".
std::string TreatmentName(const Q4Tensor& tensor);

}  // namespace q4
