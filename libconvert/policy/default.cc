// Order of the rules for one tensor: those of its model, experts, shape, what neighbouring tensors tell, general
// names. What is left, a matrix called "<module>.weight", is a linear layer's.
#include "libconvert/policy/default.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/gguf/gguf.h"
#include "libconvert/policy/diffusers.h"
#include "libconvert/policy/gguf.h"
#include "libconvert/policy/image_model.h"
#include "libconvert/policy/transformers_folders.h"
#include "libconvert/policy/wrappers.h"

namespace q4 {
namespace {

// "a.b.c" -> "a.b"; "" at the top.
std::string_view ParentOf(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

std::string Join(std::string_view parent, std::string_view name) {
  return parent.empty() ? std::string(name) : fmt::format("{}.{}", parent, name);
}

// Routed experts: a matrix per expert below "experts", or all in one 3-D tensor. Their biases are not meant.
bool IsExpertWeight(const SourceTensor& tensor) {
  const std::string_view module = ModuleOf(tensor.name);
  const std::string_view last_part = module.substr(module.rfind('.') + 1);
  if (tensor.shape.size() < 2 || last_part.find("bias") != std::string_view::npos) return false;
  if (MatchesModule("experts.**", module)) return true;
  return tensor.shape.size() == 3 && MatchesModule("shared_experts.* moe.* input_linear output_linear", module);
}

// The module that the router of an expert weight stands in: the one that holds "experts", or the 3-D weights
// themselves.
std::string_view MoeModuleOf(std::string_view expert_weight) {
  constexpr std::string_view kExperts = ".experts.";
  if (expert_weight.starts_with(kExperts.substr(1))) return {};
  const std::size_t at = expert_weight.find(kExperts);
  return at == std::string_view::npos ? ParentOf(ModuleOf(expert_weight)) : expert_weight.substr(0, at);
}

bool IsComponent(const std::vector<std::string>& model_names) {
  return std::find(model_names.begin(), model_names.end(), kDiffusersComponent) != model_names.end();
}

// Any depth, because composite models have a model_type for each part (text_config, vision_config, ...). ParseJson has
// bounded the nesting, hence this recursion.
void CollectModelTypes(const Json& json, std::vector<std::string>& names) {
  if (json.is_array()) {
    for (const Json& element : json) CollectModelTypes(element, names);
  }
  if (!json.is_object()) return;
  for (const auto& [key, value] : json.items()) {
    if (key == "model_type" && value.is_string()) names.push_back(value.get<std::string>());
    CollectModelTypes(value, names);
  }
}

// The tensors under the names that they have in the model, where a wrapper has changed them; else none.
std::vector<SourceTensor> Unwrapped(const std::vector<SourceTensor>& tensors) {
  const NameWrappers wrappers(tensors);
  if (wrappers.empty()) return {};
  std::vector<SourceTensor> unwrapped = tensors;
  for (std::size_t i = 0; i < unwrapped.size(); ++i) unwrapped[i].name = wrappers.names()[i];
  return unwrapped;
}

// What the default says of the tensors of one model. It sees the names that the model itself has.
std::vector<DefaultVerdict> VerdictsOfModel(const std::vector<SourceTensor>& tensors,
                                            const std::vector<std::string>& kinds) {
  const std::vector<SourceTensor> unwrapped = Unwrapped(tensors);
  const std::vector<SourceTensor>& named = unwrapped.empty() ? tensors : unwrapped;
  const DefaultPolicy policy(named, kinds);
  std::vector<DefaultVerdict> verdicts;
  verdicts.reserve(named.size());
  for (const SourceTensor& tensor : named) verdicts.push_back(policy.Decide(tensor));
  return verdicts;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ModelKinds(std::string_view config_json) {
  std::vector<std::string> names;
  if (config_json.empty()) return names;
  Q4_ASSIGN_OR_RETURN(const Json config, ParseModelJson(config_json, "config.json"));
  CollectModelTypes(config, names);
  if (std::string name = DiffusersClassOf(config_json); !name.empty()) {
    names.emplace_back(kDiffusersComponent);
    names.push_back(std::move(name));
  }
  if (config.is_object() && config.contains("architectures") && config.at("architectures").is_array()) {
    for (const Json& name : config.at("architectures")) {
      if (name.is_string()) names.push_back(name.get<std::string>());
    }
  }
  return names;
}

std::vector<const PolicyRule*> RulesFor(const std::vector<std::string>& model_names) {
  std::vector<const PolicyRule*> rules;
  for (const PolicyRule& rule : IsComponent(model_names) ? DiffusersRules() : ModelRules()) {
    const bool applies =
        rule.models.empty() || std::any_of(model_names.begin(), model_names.end(),
                                           [&rule](const std::string& name) { return MatchesAny(rule.models, name); });
    if (applies) rules.push_back(&rule);
  }
  return rules;
}

DefaultPolicy::DefaultPolicy(const std::vector<SourceTensor>& tensors, const std::vector<std::string>& model_names)
    : is_component_(IsComponent(model_names)), model_rules_(RulesFor(model_names)) {
  for (const SourceTensor& tensor : tensors) {
    names_.insert(tensor.name);
    if (IsExpertWeight(tensor)) moe_modules_.emplace(MoeModuleOf(tensor.name));
  }
}

// Steps 1 to 8 of docs/policy.md in their order: the first that applies decides, so exceptions stand before what they
// are exceptions from.
DefaultVerdict DefaultPolicy::Decide(const SourceTensor& tensor) const {
  const std::string_view module = ModuleOf(tensor.name);
  for (const PolicyRule* rule : model_rules_) {
    if (MatchesModule(rule->modules, module)) return {rule->quantize, rule->reason};
  }
  if (is_component_) return DecideComponent(tensor);
  if (IsExpertWeight(tensor)) return {true, kExpertWeight};
  // ModuleOf took nothing away: the name does not end in ".weight".
  if (module.size() == tensor.name.size()) return {false, "not a layer's weight"};
  if (tensor.shape.size() != 2) return {false, "not a 2-D weight"};
  if (IsRouter(module)) return {false, "router"};
  if (IsMultiheadAttentionOutput(module)) return {false, "output projection of nn.MultiheadAttention"};
  if (IsLastModule(module)) return {false, "last module of the model"};
  for (const PolicyRule& rule : GeneralRules()) {
    if (MatchesModule(rule.modules, module)) return {rule.quantize, rule.reason};
  }
  return {true, "linear weight"};
}

// diffusers holds experts in linear layers and looks at no module's place in the model.
DefaultVerdict DefaultPolicy::DecideComponent(const SourceTensor& tensor) {
  if (!tensor.name.ends_with(".weight")) return {false, "not a layer's weight"};
  if (tensor.shape.size() != 2) return {false, "not a 2-D weight"};
  return {true, "linear weight"};
}

bool DefaultPolicy::IsRouter(std::string_view module) const {
  return MatchesModule("gate router", module) && moe_modules_.contains(std::string(ParentOf(module)));
}

// nn.MultiheadAttention's out_proj is of a class derived from nn.Linear, which transformers leaves alone. What
// gives it away is the packed input projection beside it.
bool DefaultPolicy::IsMultiheadAttentionOutput(std::string_view module) const {
  return MatchesModule("out_proj", module) && names_.contains(Join(ParentOf(module), "in_proj_weight"));
}

// A head at the very end of a model. transformers spares the module of the last parameter by the parameter's name
// less ".weight": a head that has a bias is not found that way, and is quantized.
bool DefaultPolicy::IsLastModule(std::string_view module) const {
  return MatchesModule("^score ^text_projection", module) && !names_.contains(Join(module, "bias"));
}

absl::StatusOr<std::vector<DefaultVerdict>> DefaultVerdicts(const std::vector<SourceTensor>& tensors,
                                                            const ModelConfigs& configs) {
  if (IsGgufFormat(configs.format)) return GgufVerdicts(tensors);
  if (configs.folders.empty()) {
    // Most models, without a copy of every tensor.
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> kinds, ModelKinds(configs.root));
    if (kinds.empty() && IsImageModel(tensors)) return ImageModelVerdicts(tensors);
    return VerdictsOfModel(tensors, kinds);
  }
  // The numbers of the tensors of each folder.
  std::map<std::string_view, std::vector<std::size_t>> numbers;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    numbers[ModuleFolderOf(configs.folders, tensors[i].name)].push_back(i);
  }
  std::vector<DefaultVerdict> verdicts(tensors.size(), {false, kOutsideModel});
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> folders, TransformersFolders(configs));
  for (const std::string& folder : folders) {
    const std::string prefix = folder.empty() ? std::string() : folder + "/";
    std::vector<SourceTensor> inside;
    for (const std::size_t i : numbers[folder]) {
      inside.push_back(tensors[i]);
      inside.back().name.erase(0, prefix.size());
    }
    // Read before, so without errors.
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> kinds, ModelKinds(configs.Of(prefix)));
    const std::vector<DefaultVerdict> said = VerdictsOfModel(inside, kinds);
    for (std::size_t i = 0; i < inside.size(); ++i) verdicts[numbers[folder][i]] = said[i];
  }
  return verdicts;
}

}  // namespace q4
