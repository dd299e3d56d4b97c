// 4-bit weights of modules that are no linear layers, in a bitsandbytes export: which tensors of a container they are,
// and what ExportOptions::unloadable makes of them. Experts are experts.h's. Internal to libconvert/export/.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "libconvert/export/export.h"
#include "libconvert/export/model_part.h"
#include "libconvert/export/pieces.h"

namespace q4 {

// Settles `no_linear_layer` of all plan->sources, by names and shapes of each whole part (policy/loadable.h). `parts`:
// the transformers models of the container. Fails for a config.json that is no JSON (exit code 3).
absl::Status MarkUnloadable(const std::vector<ModelPart>& parts, ExportPlan* plan);

// Takes `stays_quantized` of sources that are no linear layers' away if `unloadable` is kDequantize. Fails with
// kExportUnloadable (exit code 5) if it is kError and there is one. Weights of Conv1D that stay are MakeBnbConfig()'s:
// there is no loader to keep them for. REQUIRES: SettleExperts() came first.
absl::Status SettleUnloadable(ExpertWeights unloadable, ExportPlan* plan);

}  // namespace q4
