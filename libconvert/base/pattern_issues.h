// Rules of name patterns, the regular expressions that select tensors (name_pattern.h). Both are usage errors, exit
// code 1, wherever the pattern stands: on the command line, in a recipe or in a gate.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadPattern{1201, ExitCode::kUsage, "not a valid regular expression"};
inline constexpr Issue kPatternNotUtf8{1202, ExitCode::kUsage, "a regular expression must be UTF-8 text"};

}  // namespace q4
