// What choosing by a budget refuses. All are found before a container is written.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// The detail has the range that can be reached with what is left to choose.
inline constexpr Issue kTargetOutOfReach{1651, ExitCode::kUsage,
                                         "no choice of types, block sizes and tensors to keep reaches the target"};
// No tensor is to be quantized, or all are taken over with their codes.
inline constexpr Issue kNothingToChoose{1652, ExitCode::kUsage,
                                        "there is no tensor to choose a type and block size for: none is to be "
                                        "quantized, or they are in 4 bits already and taken over as they are"};

}  // namespace q4
