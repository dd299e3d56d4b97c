// The policy says which tensors are experts, by the model's names and shapes; of the plan's sources those are looked up
// by their place in the container, since --tensor may have left some out.
#include "libconvert/export/experts.h"

#include <cstddef>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/policy/experts.h"

namespace q4 {

absl::Status MarkExperts(const Q4Model& model, const ModelConfigs& configs, ExportPlan* plan) {
  // What the policy looks at. Nothing says where the elements are, and nothing is read.
  std::vector<SourceTensor> tensors;
  tensors.reserve(model.tensors().size());
  for (const Q4Model::Location& at : model.tensors()) {
    SourceTensor& tensor = tensors.emplace_back();
    tensor.name = model.tensor(at).name;
    tensor.shape = model.tensor(at).shape;
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<bool> fused, FusedExperts(tensors, configs));
  std::unordered_set<const Q4Tensor*> experts;
  for (std::size_t i = 0; i < fused.size(); ++i) {
    if (fused[i]) experts.insert(&model.tensor(model.tensors()[i]));
  }
  for (ExportSource& source : plan->sources) source.fused_expert = experts.contains(source.tensor);
  plan->splits_experts = SplitsExpertsWhenQuantized(configs);
  return absl::OkStatus();
}

absl::Status SettleExperts(ExpertWeights experts, ExportPlan* plan) {
  std::string_view first;
  std::uint64_t count = 0;
  for (ExportSource& source : plan->sources) {
    const Q4Tensor& tensor = *source.tensor;
    // What came so is written so: who quantized it knew a loader.
    if (IsTakenOver(tensor)) {
      source.stays_quantized = !(source.fused_expert && experts == ExpertWeights::kDequantize);
      continue;
    }
    // A matrix per expert is what such loaders want.
    if (plan->splits_experts && source.fused_expert && tensor.shape.size() > 2 && experts != ExpertWeights::kKeep4bit) {
      return Fail(kExportFusedExperts, {}, tensor.name);
    }
    source.stays_quantized =
        tensor.quantized() && !source.outside_model && !(source.fused_expert && experts == ExpertWeights::kDequantize);
    if (source.fused_expert && tensor.quantized() && count++ == 0) first = tensor.name;
  }
  if (count == 0 || experts != ExpertWeights::kError) return absl::OkStatus();
  return Fail(kExportExperts, {}, first, fmt::format("got {} of them in 4 bits", count));
}

std::string_view ExpertWeightsName(ExpertWeights experts) {
  switch (experts) {
    case ExpertWeights::kDequantize:
      return "dequantize";
    case ExpertWeights::kKeep4bit:
      return "keep4bit";
    case ExpertWeights::kError:
      break;
  }
  return "error";
}

}  // namespace q4
