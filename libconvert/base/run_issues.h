// What can end any run.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kOutOfMemory{2102, ExitCode::kIo, "out of memory"};

}  // namespace q4
