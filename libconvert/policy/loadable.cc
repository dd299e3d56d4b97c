// The default policy knows which weights are linear layers', so its reason is the answer; a table says of each reason
// which it is.
#include "libconvert/policy/loadable.h"

#include <algorithm>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/policy/policy.h"
#include "libconvert/policy/rules.h"

namespace q4 {
namespace {

struct ReasonKind {
  std::string_view reason;  // or how it begins, with a '*' at the end
  bool linear;
};

constexpr ReasonKind kReasons[] = {
    {"linear weight", true},
    {kExpertWeight, true},
    {kOutputHead, true},
    {"shared with another module", true},
    {"last module of the model", true},
    {"embedding", false},
    {"norm", false},
    {"router", false},
    {"parameter that is no layer", false},
    {"not a layer's weight", false},
    {"not a 2-D weight", false},
    {"output projection of nn.MultiheadAttention", false},
    {"kept in full precision by the model class", false},
    {"small weight that llama.cpp does not quantize", true},
    {"special linear class*", false},
    {"Conv1D weight*", false},
};

bool Matches(std::string_view pattern, std::string_view reason) {
  return pattern.ends_with('*') ? reason.starts_with(pattern.substr(0, pattern.size() - 1)) : reason == pattern;
}

}  // namespace

bool IsLinearReason(std::string_view reason, bool* known) {
  const auto kind = std::find_if(std::begin(kReasons), std::end(kReasons),
                                 [reason](const ReasonKind& row) { return Matches(row.reason, reason); });
  const bool found = kind != std::end(kReasons);
  if (known != nullptr) *known = found;
  return !found || kind->linear;
}

absl::StatusOr<std::vector<std::string>> WhyNoLinearLayer(const std::vector<SourceTensor>& tensors,
                                                          const ModelConfigs& configs) {
  // Only name and shape count: a matrix whose dtype cannot be quantized is a linear layer all the same.
  std::vector<SourceTensor> plain = tensors;
  for (SourceTensor& tensor : plain) {
    tensor.dtype = DType::kF32;
    tensor.elems = 1;
  }
  Q4_ASSIGN_OR_RETURN(std::vector<Decision> decisions, DecideTensors(plain, configs, {}));
  std::vector<std::string> why;
  why.reserve(decisions.size());
  for (Decision& decision : decisions) {
    why.push_back(decision.quantize || IsLinearReason(decision.reason) ? std::string() : std::move(decision.reason));
  }
  return why;
}

}  // namespace q4
