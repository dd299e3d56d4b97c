// What can be wrong with a gate file (4xxx) or a baseline. What a model breaks is in verify_issues.h.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kGateShape{4201, ExitCode::kInvalidInput, "a gate file is {\"rules\": [{...}, ...]}"};
inline constexpr Issue kGateUnknownKey{4202, ExitCode::kInvalidInput, "unknown key in a gate file"};
inline constexpr Issue kGateValue{4203, ExitCode::kInvalidInput, "value not allowed in a gate file"};
inline constexpr Issue kGateEmptyRule{4204, ExitCode::kInvalidInput, "a gate's rule limits nothing"};
inline constexpr Issue kGateScope{4205, ExitCode::kInvalidInput, "this key does not go with the rule's scope"};
inline constexpr Issue kNoBaseline{4206, ExitCode::kInvalidInput,
                                   "a baseline is what q4verify --json wrote about a model with error statistics"};

}  // namespace q4
