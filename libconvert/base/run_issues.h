// What can end any run, whatever it does. Reported where std::bad_alloc is caught, and where a device has no more
// memory.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kOutOfMemory{2102, ExitCode::kIo, "out of memory"};
// Nobody set --max-memory, and its default is too small for the work: a limit of the machine (machine.h), not a flag,
// is at fault.
inline constexpr Issue kLimitOfMachine{2570, ExitCode::kIo, "the process may not have the memory that this needs"};

}  // namespace q4
