// The default policy knows experts, and its rules name the models whose experts are linear layers (rules.cc), so its
// reason is the answer.
#include "libconvert/policy/experts.h"

#include <algorithm>

#include "formats/base/status.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/rules.h"

namespace q4 {

absl::StatusOr<std::vector<bool>> FusedExperts(const std::vector<SourceTensor>& tensors,
                                               const std::string& config_json) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> model_names, ModelKinds(config_json));
  const DefaultPolicy policy(tensors, model_names);
  std::vector<bool> fused;
  fused.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) fused.push_back(policy.Decide(tensor).reason == kExpertWeight);
  return fused;
}

bool SplitsExpertsWhenQuantized(const std::string& config_json) {
  const auto names = ModelKinds(config_json);
  if (!names.ok()) return false;
  return std::any_of(names->begin(), names->end(),
                     [](const std::string& name) { return MatchesAny("llama4 llama4_text", name); });
}

}  // namespace q4
