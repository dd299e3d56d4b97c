// The rules that the reader of model_index.json checks.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// For what is no object, and for a name that could lead out of the folder or is none on some systems.
inline constexpr Issue kPipelineForm{3820, ExitCode::kInvalidInput,
                                     "model_index.json must name components, each by a Python identifier that is also "
                                     "the name of its folder"};
inline constexpr Issue kTooManyComponents{3821, ExitCode::kInvalidInput, "more components than the limit"};

}  // namespace q4
