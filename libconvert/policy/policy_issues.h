// Rules of the policy: what can be wrong with a recipe (400x, exit code 3: the file is not a valid recipe) or with what
// one asks for (5901, exit code 5: valid, but not in this version), with a calibration (162x, 362x), and with what an
// export can say of it (5550). A
// config.json that is no JSON is reported by ParseModelJson. What is wrong with a pattern is in
// libconvert/base/pattern_issues.h.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kRecipeShape{4001, ExitCode::kInvalidInput,
                                    "a recipe is {\"rules\": [{\"match\": \"...\", ...}, ...]}"};
// At the top or in a rule.
inline constexpr Issue kRecipeUnknownKey{4002, ExitCode::kInvalidInput, "unknown key in a recipe"};
// A known key with a value of the wrong type or out of range.
inline constexpr Issue kRecipeValue{4003, ExitCode::kInvalidInput, "value not allowed in a recipe"};
// Only "match": the rule would select tensors and do nothing.
inline constexpr Issue kRecipeEmptyRule{4004, ExitCode::kInvalidInput, "a recipe's rule changes nothing"};
inline constexpr Issue kSkipCatches{5550, ExitCode::kUnsupported,
                                    "diffusers would leave this quantized module alone as well, for the name of one "
                                    "that is kept; quantize or keep both"};
// A checkpoint that is quantized already and taken over as it is leaves nothing to choose.
inline constexpr Issue kTakenOverSettings{1740, ExitCode::kUsage,
                                          "the weights are in 4 bits already and are taken over as they are; leave the "
                                          "option away, or convert the unquantized checkpoint"};
inline constexpr Issue kTakenOverRules{
    1741, ExitCode::kUsage,
    "the weights are in 4 bits already and are taken over as they are, so no pattern "
    "or recipe can choose among them; leave the option away, or convert the "
    "unquantized checkpoint"};
// A calibration file beside a checkpoint and options (policy/calibrated.h).
inline constexpr Issue kCalibrationMissing{1620, ExitCode::kUsage,
                                           "the encoder weighs errors by the inputs of layers; give --calibration FILE "
                                           "(docs/calibration.md), or use --encoder mse"};
inline constexpr Issue kCalibrationUnused{
    1621, ExitCode::kUsage,
    "neither --encoder nor the recipe names an encoder that uses a calibration; use --encoder weighted"};
inline constexpr Issue kCalibrationFit{3624, ExitCode::kInvalidInput,
                                       "an input of the calibration is not of this tensor's shape"};
inline constexpr Issue kCalibrationOther{3625, ExitCode::kInvalidInput,
                                         "the calibration is of another model: it names no weight of this one"};
inline constexpr Issue kCalibrationNoHessians{
    3631, ExitCode::kInvalidInput,
    "the calibration has second moments alone, and feedback needs Hessians; make it without --no-hessian, or use "
    "--encoder weighted"};
inline constexpr Issue kEncoderNotBuilt{5901, ExitCode::kUnsupported,
                                        "the encoder is specified (docs/numerics.md Q9) but not part of this version"};

}  // namespace q4
