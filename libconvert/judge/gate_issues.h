// What can be wrong with a gate file (4xxx) or a baseline, exit code 3: the judgement never begins. What a model breaks
// is in verify_issues.h. docs/gates.md has the keys.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kGateShape{4201, ExitCode::kInvalidInput, "a gate file is {\"rules\": [{...}, ...]}"};
inline constexpr Issue kGateUnknownKey{4202, ExitCode::kInvalidInput, "unknown key in a gate file"};
inline constexpr Issue kGateValue{4203, ExitCode::kInvalidInput, "value not allowed in a gate file"};
// Such a rule would look like a test and be none.
inline constexpr Issue kGateEmptyRule{4204, ExitCode::kInvalidInput, "a gate's rule limits nothing"};
// "match" with the model, which has no name; "type" and "block_size" with anything but tensors.
inline constexpr Issue kGateScope{4205, ExitCode::kInvalidInput, "this key does not go with the rule's scope"};
// A limit that nothing is held against would pass every model.
inline constexpr Issue kGateNeedsAbsmax{1670, ExitCode::kUsage,
                                        "limits the error beside that of absmax, which is not measured here"};
inline constexpr Issue kNoBaseline{4206, ExitCode::kInvalidInput,
                                   "a baseline is what q4verify --json wrote about a model with error statistics"};

}  // namespace q4
