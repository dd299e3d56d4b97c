// What can end any run, whatever it does. Reported where std::bad_alloc is caught, and where a device has no more
// memory.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kOutOfMemory{2102, ExitCode::kIo, "out of memory"};

}  // namespace q4
