// The rules that a calibration file must keep (docs/calibration.md).
#pragma once

#include "formats/base/status.h"

namespace q4 {

// A safetensors file of anything else; a member of __metadata__ that is missing or no JSON of the expected form; a
// tensor that no input has.
inline constexpr Issue kCalibrationLayout{3620, ExitCode::kInvalidInput, "not what a calibration file holds"};
// Also an input that the list of weights names, and that has no second moments.
inline constexpr Issue kCalibrationTensor{3621, ExitCode::kInvalidInput,
                                          "tensor of a calibration is missing or has another dtype or shape"};
// NaN, infinite or negative moments; no tokens, but moments.
inline constexpr Issue kCalibrationValue{3622, ExitCode::kInvalidInput,
                                         "number of a calibration that no input can have"};
// Not symmetric, or a diagonal that is not the second moments.
inline constexpr Issue kCalibrationHessian{3623, ExitCode::kInvalidInput,
                                           "Hessian of a calibration contradicts itself"};
// However much is added to its diagonal (numerics Q17.3): no mean of products is like that.
inline constexpr Issue kHessianNotPositive{3630, ExitCode::kInvalidInput,
                                           "Hessian of a calibration is not positive definite"};
inline constexpr Issue kCalibrationVersion{5620, ExitCode::kUnsupported, "version of a calibration file is not known"};

}  // namespace q4
