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
// Of a comparison: its codes follow from whole tensors and their Hessians, which is the conversion itself.
inline constexpr Issue kCompareFeedback{5350, ExitCode::kUnsupported,
                                        "feedback is not compared: its errors are known when a conversion has chosen "
                                        "all codes; convert with --report, and compare without it (--encoder "
                                        "weighted with the same calibration is nearest to it)"};

}  // namespace q4
