// Routed experts in a bitsandbytes export: which tensors of a container they are, and what ExportOptions::experts makes
// of them. Internal to libconvert/export/.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"
#include "libconvert/export/export.h"
#include "libconvert/export/pieces.h"

namespace q4 {

// Settles `fused_expert` of all plan->sources and `splits_experts`, by the names and shapes of the whole model, those
// that --tensor leaves out included. `configs` are those embedded. Fails for one that is no JSON (exit code 3).
absl::Status MarkExperts(const Q4Model& model, const ModelConfigs& configs, ExportPlan* plan);

// Settles `stays_quantized` of all plan->sources for an export of quantized weights: true of quantized ones, but for
// experts that are to be dequantized, and for what lies outside the model (`outside_model`). Fails with kExportExperts
// (exit code 5) if `experts` is kError and an expert is quantized, and with kExportFusedExperts (5) unless it is
// kKeep4bit if there are any fused experts, quantized or not, of a model whose loaders want a matrix per expert.
absl::Status SettleExperts(ExpertWeights experts, ExportPlan* plan);

// What --experts and the report call a choice.
std::string_view ExpertWeightsName(ExpertWeights experts);

}  // namespace q4
