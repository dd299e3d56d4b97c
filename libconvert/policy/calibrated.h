// What a calibration file changes about decisions: which tensors have an input in it, and which are left to the encoder
// `mse`. The plan asks it, and q4verify again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/calibration/calibration.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/policy.h"

namespace q4 {

struct CalibratedDecisions {
  // Tensors, in their order, that went to another encoder than was asked for.
  struct Left {
    std::vector<std::size_t> tensors;
    Q4Encoder to = Q4Encoder::kNone;
  };

  std::vector<WeightInput> inputs;         // by tensor; set where the decision names a calibrated encoder
  Left without_input;                      // the file does not name them
  Left without_hessian;                    // their input has none, which the encoder needs
  std::vector<std::size_t> of_few_tokens;  // their Hessians are of fewer tokens than there are features
  std::uint64_t idle_experts = 0;          // matrices of these inputs that no token came to
};

// Whether the options or their recipe name an encoder that needs a calibration file.
bool NamesCalibratedEncoder(const PolicyOptions& options);

// Finds the inputs of the tensors that a calibrated encoder is decided for, and gives those of which the file has not
// what it needs to another one (Q4EncoderRow::otherwise): without an input `mse`, without a Hessian `weighted`. Errors:
// kCalibrationFit where an input is not of the tensor's shape, kCalibrationOther where the file names none of the
// tensors, kCalibrationNoHessians where `feedback` finds a Hessian for none (exit code 3).
absl::StatusOr<CalibratedDecisions> ApplyCalibration(const Calibration& calibration,
                                                     const std::vector<SourceTensor>& tensors,
                                                     std::vector<Decision>* decisions);

}  // namespace q4
