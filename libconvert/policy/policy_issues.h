// Rules of the policy: recipes and the configuration that it reads.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kRecipeShape{4001, ExitCode::kInvalidInput,
                                    "a recipe is {\"rules\": [{\"match\": \"...\", ...}, ...]}"};
inline constexpr Issue kRecipeUnknownKey{4002, ExitCode::kInvalidInput, "unknown key in a recipe"};
inline constexpr Issue kRecipeValue{4003, ExitCode::kInvalidInput, "value not allowed in a recipe"};
inline constexpr Issue kRecipeEmptyRule{4004, ExitCode::kInvalidInput, "a recipe's rule changes nothing"};
inline constexpr Issue kEncoderNotBuilt{5901, ExitCode::kUnsupported,
                                        "encoder mse is specified (docs/numerics.md Q9) but not part of this version"};

}  // namespace q4
