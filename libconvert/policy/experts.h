// Which weights are routed experts that loaders hold fused. The default policy quantizes them (docs/policy.md, D1), but
// transformers 5 has them in one 3-D parameter for all experts of a layer, whatever the checkpoint holds them in, and
// takes no 4-bit weights for it. Exporters, lint and the converter's notes all ask here.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/modules.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// For each tensor, in the same order, whether it is a weight of experts that transformers fuses: a matrix of a single
// expert, or the 3-D weights of all. Experts that are plain linear layers there (Switch Transformers, NLLB-MoE) are
// not, nor are routers, biases and shared experts. By names, shapes and `configs` alone; dtypes are not looked at.
// Fails for a config.json that is not JSON (exit code 3).
absl::StatusOr<std::vector<bool>> FusedExperts(const std::vector<SourceTensor>& tensors, const ModelConfigs& configs);

// Whether transformers 5 builds the model with a linear layer for each expert as soon as its checkpoint says
// bitsandbytes, although it holds them fused otherwise (Llama 4). Such a checkpoint must have a matrix per expert:
// fused weights do not load, quantized or not. A config.json that is not JSON counts as none.
bool SplitsExpertsWhenQuantized(const ModelConfigs& configs);

}  // namespace q4
