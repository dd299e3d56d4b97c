// What can go wrong with GPUs, whoever uses them. Numbers are for ever; docs/errors.md is generated from this file.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// --device is none of the forms that ParseDevice() knows.
inline constexpr Issue kBadDevice{1121, ExitCode::kUsage, "device is not understood"};
inline constexpr Issue kNoCuda{5301, ExitCode::kUnsupported, "this build of q4 has no CUDA backend"};
// IsDeviceFailure() is true: --device auto goes on on the cores.
inline constexpr Issue kDeviceEncoder{5302, ExitCode::kUnsupported,
                                      "the encoder has no kernels for GPUs; use --device cpu"};
// A call of CUDA failed; the message has CUDA's text. Not the input's fault: IsDeviceFailure() is true.
inline constexpr Issue kDeviceFailed{9301, ExitCode::kInternal, "operation of the GPU failed"};
// The machine has no GPU, or none with the ordinal that was named.
inline constexpr Issue kNoDevice{9302, ExitCode::kInternal, "no such CUDA device"};
// Too little memory is free when the device starts, or it runs out although it was free then: another process took it.
inline constexpr Issue kDeviceMemory{9303, ExitCode::kInternal, "memory of the GPU does not suffice"};

}  // namespace q4
