// The default policy knows experts, and its rules name the models whose experts are linear layers (rules.cc), so its
// reason is the answer.
#include "libconvert/policy/experts.h"

#include <algorithm>
#include <cstdint>

#include "formats/base/status.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/policy.h"
#include "libconvert/policy/rules.h"

namespace q4 {

absl::StatusOr<std::vector<bool>> FusedExperts(const std::vector<SourceTensor>& tensors, const ModelConfigs& configs) {
  Q4_ASSIGN_OR_RETURN(const std::vector<DefaultVerdict> verdicts, DefaultVerdicts(tensors, configs));
  std::vector<bool> fused;
  fused.reserve(tensors.size());
  for (const DefaultVerdict& verdict : verdicts) fused.push_back(verdict.reason == kExpertWeight);
  return fused;
}

bool SplitsExpertsWhenQuantized(const ModelConfigs& configs) {
  const auto splits = [](const std::string& config_json) {
    const auto names = ModelKinds(config_json);
    return names.ok() && std::any_of(names->begin(), names->end(),
                                     [](const std::string& name) { return MatchesAny("llama4 llama4_text", name); });
  };
  return splits(configs.root) || std::any_of(configs.texts.begin(), configs.texts.end(), splits);
}

}  // namespace q4
