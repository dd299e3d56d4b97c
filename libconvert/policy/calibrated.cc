#include "libconvert/policy/calibrated.h"

#include <algorithm>
#include <string_view>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/encoders.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/policy/policy_issues.h"

namespace q4 {
namespace {

bool IsCalibrated(Q4Encoder encoder) { return FindQ4Encoder(encoder)->calibrated; }
Q4Encoder Otherwise(Q4Encoder encoder) { return FindQ4Encoder(encoder)->otherwise; }

}  // namespace

bool NamesCalibratedEncoder(const PolicyOptions& options) {
  if (IsCalibrated(options.defaults.encoder)) return true;
  if (!options.recipe) return false;
  return std::any_of(options.recipe->rules.begin(), options.recipe->rules.end(),
                     [](const RecipeRule& rule) { return rule.encoder && IsCalibrated(*rule.encoder); });
}

absl::StatusOr<CalibratedDecisions> ApplyCalibration(const Calibration& calibration,
                                                     const std::vector<SourceTensor>& tensors,
                                                     std::vector<Decision>* decisions) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) names.emplace_back(tensor.name);
  CalibratedDecisions result;
  // All names of the checkpoint, quantized or not: which tensor a name of the file means must not depend on options.
  result.inputs = calibration.Match(names);
  bool any = false, wanted = false, any_whole = false, any_hessian = false;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Decision& decision = (*decisions)[i];
    WeightInput& input = result.inputs[i];
    any = any || input.input != nullptr;
    if (!decision.quantize || !IsCalibrated(decision.settings.encoder)) {
      input = {};
      continue;
    }
    wanted = true;
    if (input.input == nullptr) {
      while (IsCalibrated(decision.settings.encoder)) decision.settings.encoder = Otherwise(decision.settings.encoder);
      result.without_input.to = decision.settings.encoder;
      result.without_input.tensors.push_back(i);
      continue;
    }
    if (const std::string misfit = CalibrationMisfit(input, tensors[i].shape); !misfit.empty()) {
      return Fail(kCalibrationFit, calibration.path(),
                  fmt::format("input '{}' of tensor '{}'", input.input->name, tensors[i].name), misfit);
    }
    result.idle_experts += input.input->idle;
    if (!CodesNeedWholeTensor(decision.settings.encoder)) continue;
    any_whole = true;
    if (input.input->has_hessian) {
      any_hessian = true;
      const InputStatistics& seen = *input.input;
      if (seen.tokens < seen.columns * (seen.matrices - seen.idle)) result.of_few_tokens.push_back(i);
    } else {
      decision.settings.encoder = Otherwise(decision.settings.encoder);
      result.without_hessian.to = decision.settings.encoder;
      result.without_hessian.tensors.push_back(i);
    }
  }
  if (!any && wanted) {
    const std::string& name = tensors[result.without_input.tensors.front()].name;
    // No model of torch has llama.cpp's names: q4calibrate runs none of a GGUF file.
    return Fail(kCalibrationOther, calibration.path(), {},
                fmt::format("its {} weights have other names than '{}'; make the file {}", calibration.weights(), name,
                            name.starts_with("blk.")
                                ? "of an imatrix of this model: q4calibrate THIS.gguf --imatrix IMATRIX.gguf -o FILE"
                                : "with this checkpoint: q4calibrate CHECKPOINT --texts FILE... -o FILE"));
  }
  if (any_whole && !any_hessian) return Fail(kCalibrationNoHessians, calibration.path(), {});
  return result;
}

}  // namespace q4
