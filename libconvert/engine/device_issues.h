// What can go wrong with GPUs, whoever uses them.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadDevice{1121, ExitCode::kUsage, "device is not understood"};
inline constexpr Issue kNoCuda{5301, ExitCode::kUnsupported, "this build of q4 has no CUDA backend"};
inline constexpr Issue kDeviceFailed{9301, ExitCode::kInternal, "operation of the GPU failed"};
inline constexpr Issue kNoDevice{9302, ExitCode::kInternal, "no such CUDA device"};
inline constexpr Issue kDeviceMemory{9303, ExitCode::kInternal, "memory of the GPU does not suffice"};

}  // namespace q4
