// Rules of name patterns, the regular expressions that select tensors (name_pattern.h). All are usage errors, exit
// code 1, wherever the pattern stands: on the command line, in a recipe or in a gate.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadPattern{1201, ExitCode::kUsage, "not a valid regular expression"};
inline constexpr Issue kPatternNotUtf8{1202, ExitCode::kUsage, "a regular expression must be UTF-8 text"};

// Of a model that is at hand, so mostly misspelt: --include, --exclude, --filter, a recipe's rule. Others that select
// tensors have rules of their own for it (6306, 8006).
inline constexpr Issue kPatternUnmatched{1580, ExitCode::kUsage, "matches no tensor"};
// It would match every name; a shell variable that is not set gives one.
inline constexpr Issue kPatternEmpty{1581, ExitCode::kUsage, "an empty pattern; to match every name write '.'"};

}  // namespace q4
