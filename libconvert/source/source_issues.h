// Rules of reading the source of a conversion.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kSourceUnread{9201, ExitCode::kInternal, "a source file was not read to its end"};

}  // namespace q4
