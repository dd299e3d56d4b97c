// What can be wrong with an evaluation that q4verify is given, and with gates on its numbers.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// A limit on a number that nobody measured would pass or fail every model.
inline constexpr Issue kGateNeedsEvaluation{1940, ExitCode::kUsage,
                                            "limits a number of an evaluation, and none is given"};
// As it is typed.
inline constexpr Issue kBadLimit{1941, ExitCode::kUsage, "no limit on a number of an evaluation"};
inline constexpr Issue kEvaluationShape{4940, ExitCode::kInvalidInput,
                                        "an evaluation is what save() of q4.evaluate wrote"};
// Of other weights the numbers say nothing.
inline constexpr Issue kEvaluationOther{4941, ExitCode::kInvalidInput, "the evaluation is of another container"};
inline constexpr Issue kEvaluationVersion{5940, ExitCode::kUnsupported, "an evaluation of another version of q4"};
inline constexpr Issue kEvaluationLacks{6940, ExitCode::kCheckFailed,
                                        "a gate limits a number that the evaluation does not hold"};

}  // namespace q4
