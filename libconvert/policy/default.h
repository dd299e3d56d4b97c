// The default policy of one checkpoint, before recipes and patterns.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/tensor.h"
#include "libconvert/policy/rules.h"

namespace q4 {

// "a.b.weight" -> "a.b", "weight" -> "". Names that do not end in ".weight" are returned as they are.
std::string_view ModuleOf(std::string_view tensor);

// What config.json says about the kind of model: every model_type in it, at any depth, and every entry of
// "architectures". "" gives none. Fails when the text is not JSON.
absl::StatusOr<std::vector<std::string>> ModelKinds(std::string_view config_json);

// The entries of ModelRules() that apply to a model, in order.
std::vector<const PolicyRule*> RulesFor(const std::vector<std::string>& model_names);

struct DefaultVerdict {
  bool quantize = false;
  std::string_view reason;  // static text
};

// Looks at names, shapes and neighbours; not at dtypes. Immutable after construction.
class DefaultPolicy {
 public:
  DefaultPolicy(const std::vector<TensorInfo>& tensors, const std::vector<std::string>& model_names);

  // REQUIRES: `tensor` is one of those given to the constructor.
  DefaultVerdict Decide(const TensorInfo& tensor) const;

 private:
  bool IsRouter(std::string_view module) const;
  bool IsMultiheadAttentionOutput(std::string_view module) const;
  bool IsLastModule(std::string_view module) const;

  std::vector<const PolicyRule*> model_rules_;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> moe_modules_;  // modules that hold experts, where routers stand
};

}  // namespace q4
