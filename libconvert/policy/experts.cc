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

absl::StatusOr<std::vector<bool>> FusedExperts(const std::vector<SourceTensor>& tensors,
                                               const std::string& config_json) {
  // Asked for names and shapes alone: any dtype that the policy quantizes would do, and no tensor is empty.
  std::vector<SourceTensor> named = tensors;
  for (SourceTensor& tensor : named) {
    tensor.dtype = DType::kF32;
    tensor.elems = std::max<std::uint64_t>(tensor.elems, 1);
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<Decision> decisions, DecideTensors(named, config_json, {}));
  std::vector<bool> fused;
  fused.reserve(decisions.size());
  for (const Decision& decision : decisions) fused.push_back(decision.reason == kExpertWeight);
  return fused;
}

bool SplitsExpertsWhenQuantized(const std::string& config_json) {
  const auto names = ModelKinds(config_json);
  if (!names.ok()) return false;
  return std::any_of(names->begin(), names->end(),
                     [](const std::string& name) { return MatchesAny("llama4 llama4_text", name); });
}

}  // namespace q4
