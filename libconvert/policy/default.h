// The default policy of one checkpoint, before recipes and patterns: docs/policy.md, "The rule", as code. Used by
// policy.h; the names behind it are tables in rules.h.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/modules.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/module_names.h"
#include "libconvert/policy/rules.h"

namespace q4 {

// Among the kinds of a component of a diffusers pipeline (diffusers.h); its class is another.
inline constexpr std::string_view kDiffusersComponent = "diffusers component";

// What config.json says about the kind of model: every model_type in it, at any depth, and every entry of
// "architectures". "" gives none. Fails when the text is not JSON. Both kinds of names go into one list, model types
// first, since a rule may be about either. Values that are not strings are passed over. A component of a diffusers
// pipeline has kDiffusersComponent and its class. Fails with the issue of ParseModelJson (exit code 3), also for
// nesting beyond the limit for config.json.
absl::StatusOr<std::vector<std::string>> ModelKinds(std::string_view config_json);

// The entries of ModelRules(), of a component of DiffusersRules(), that apply to a model, in order. Pointers into
// static tables.
std::vector<const PolicyRule*> RulesFor(const std::vector<std::string>& model_names);

// What the default says of one tensor, and why: one of the reasons of docs/policy.md.
struct DefaultVerdict {
  bool quantize = false;
  std::string_view reason;  // static text
};

// Looks at names, shapes and neighbours; not at dtypes. Immutable after construction. Keeps copies of all names,
// because routers and attention outputs are known by the tensors beside them. Thread-safe.
class DefaultPolicy {
 public:
  // `tensors`: all of the checkpoint, in any order. `model_names`: what ModelKinds() gave.
  DefaultPolicy(const std::vector<SourceTensor>& tensors, const std::vector<std::string>& model_names);

  // REQUIRES: `tensor` is one of those given to the constructor. The first of the eight steps that applies decides.
  // Cost: a few look-ups, and a comparison with each rule for the model.
  DefaultVerdict Decide(const SourceTensor& tensor) const;

 private:
  // Steps 4, 5 and 6 of the rule.
  bool IsRouter(std::string_view module) const;
  bool IsMultiheadAttentionOutput(std::string_view module) const;
  bool IsLastModule(std::string_view module) const;

  // What remains for a component, after its rules.
  static DefaultVerdict DecideComponent(const SourceTensor& tensor);

  bool is_component_;  // of a diffusers pipeline
  std::vector<const PolicyRule*> model_rules_;
  // Of all tensors.
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> moe_modules_;  // modules that hold experts, where routers stand
};

// What the default says of each of `tensors`, in the same order. Each of TransformersFolders() is a model of its own,
// and its rules see the names inside it. Modules of other libraries are kept: loading in 4 bits never touches them.
// Errors: those of ModelKinds().
absl::StatusOr<std::vector<DefaultVerdict>> DefaultVerdicts(const std::vector<SourceTensor>& tensors,
                                                            const ModelConfigs& configs);

}  // namespace q4
