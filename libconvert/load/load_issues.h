// What can go wrong when a model is loaded into memory, beyond what is wrong with its files (7xxx) or with GPUs
// (device_issues.h).
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kLoadNoSuchTensor{1301, ExitCode::kUsage, "model has no such tensor"};
inline constexpr Issue kLoadOption{1302, ExitCode::kUsage, "option of the loader is out of its range"};
inline constexpr Issue kLoadInterrupted{4911, ExitCode::kInterrupted, "loading was interrupted"};
inline constexpr Issue kLoadHostMemory{9304, ExitCode::kInternal, "memory does not suffice"};

}  // namespace q4
