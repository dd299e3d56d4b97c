// As experts.cc: the policy says which tensors they are, and the plan's sources are looked up by their place in the
// container.
#include "libconvert/export/unloadable.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/policy/loadable.h"

namespace q4 {

absl::Status MarkUnloadable(const std::vector<ModelPart>& parts, ExportPlan* plan) {
  std::unordered_map<const Q4Tensor*, std::string> by_tensor;
  for (const ModelPart& part : parts) {
    std::vector<SourceTensor> tensors;
    tensors.reserve(part.tensors.size());
    for (const ModelPart::Tensor& at : part.tensors) {
      SourceTensor& tensor = tensors.emplace_back();
      tensor.name = at.name;
      tensor.shape = at.tensor->shape;
    }
    Q4_ASSIGN_OR_RETURN(std::vector<std::string> why, WhyNoLinearLayer(tensors, part.config_json));
    for (std::size_t i = 0; i < why.size(); ++i) {
      if (!why[i].empty()) by_tensor.emplace(part.tensors[i].tensor, std::move(why[i]));
    }
  }
  for (ExportSource& source : plan->sources) {
    const auto found = by_tensor.find(source.tensor);
    if (found != by_tensor.end()) source.no_linear_layer = found->second;
  }
  return absl::OkStatus();
}

absl::Status SettleUnloadable(ExpertWeights unloadable, ExportPlan* plan) {
  const ExportSource* first = nullptr;
  std::uint64_t count = 0;
  for (ExportSource& source : plan->sources) {
    if (!source.stays_quantized || source.no_linear_layer.empty()) continue;
    if (unloadable == ExpertWeights::kDequantize) source.stays_quantized = false;
    if (IsTakenOver(*source.tensor)) continue;  // it came so
    if (source.no_linear_layer.starts_with("Conv1D")) continue;
    if (count++ == 0) first = &source;
  }
  if (count == 0 || unloadable != ExpertWeights::kError) return absl::OkStatus();
  return Fail(kExportUnloadable, {}, first->tensor->name,
              fmt::format("{}; got {} of them in 4 bits", first->no_linear_layer, count));
}

}  // namespace q4
