// What text and JSON of a conversion both need.
#pragma once

#include "libconvert/convert/convert.h"
#include "libconvert/model/stats.h"

namespace q4 {

// The error of the whole model; `tensors` is 0 where none is quantized.
ModelStats TotalsOf(const ConvertReport& report);

// Of a planned tensor: what a plan can know, before compression.
std::uint64_t PayloadBytes(const Q4Tensor& tensor);

}  // namespace q4
