// What is particular to a dequantized checkpoint. Internal to libconvert/export*.cc.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "formats/tensor/tensor.h"
#include "libconvert/export/pieces.h"

namespace q4 {

// Adds one target for each of plan->sources. F32, F16 and BF16 tensors, quantized or not, get `dtype` if it is given;
// all others stay as they are.
void PlanSafetensorsTargets(std::optional<DType> dtype, ExportPlan* plan);

// `config_json` for the dequantized model: without quantization_config, and naming `dtype` if that is given. Fails if
// it is no JSON object (exit code 3).
absl::StatusOr<std::string> DequantizedConfigText(const std::string& config_json, std::optional<DType> dtype);

}  // namespace q4
