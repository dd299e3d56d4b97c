#include "libconvert/policy/skip_modules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "libconvert/policy/default.h"
#include "libconvert/policy/experts.h"
#include "libconvert/policy/fused_layers.h"
#include "libconvert/policy/module_names.h"
#include "libconvert/policy/rules.h"

namespace q4 {
namespace {

// The quantized modules under every name that a loader may know them by, asked whether an entry of a skip list would
// catch one of them. Each set holds names backwards, so that an entry that ends a name begins one there.
class QuantizedModules {
 public:
  void Add(std::string_view module) {
    names_.emplace(module.rbegin(), module.rend());
    while (true) {
      // Stops at the first name that is known: those above it are then known as well.
      if (!names_or_above_.emplace(module.rbegin(), module.rend()).second) return;
      const std::size_t dot = module.rfind('.');
      if (dot == std::string_view::npos) return;
      module = module.substr(0, dot);
    }
  }

  // Whether any loader of skip_modules.h would: all of their ways are endings of a name or of a module above it.
  bool CaughtBySome(std::string_view entry) const { return Ends(names_or_above_, entry); }

  // Whether transformers 5 would: the end of a name, or a module above one.
  bool CaughtByTransformers(std::string_view entry) const {
    return Ends(names_, entry) || names_or_above_.contains(std::string(entry.rbegin(), entry.rend()));
  }

 private:
  static bool Ends(const std::set<std::string>& backwards, std::string_view entry) {
    const std::string beginning(entry.rbegin(), entry.rend());
    // The first name not below the beginning has it, if any has.
    const auto found = backwards.lower_bound(beginning);
    return found != backwards.end() && found->starts_with(beginning);
  }

  std::set<std::string> names_, names_or_above_;
};

// The part that a class with a head puts before the names of the model without one, or "": what most modules begin
// with. `config_json` may be no JSON at all, which then names no class.
std::string BasePrefix(const std::vector<std::string>& modules, const std::string& config_json) {
  const auto kinds = ModelKinds(config_json);
  if (!kinds.ok()) return {};
  const bool has_head = std::any_of(kinds->begin(), kinds->end(), [](const std::string& kind) {
    return kind.find("For") != std::string::npos || kind.find("Head") != std::string::npos;
  });
  if (!has_head) return {};
  std::map<std::string_view, std::size_t> beginnings;
  for (const std::string_view module : modules) {
    const std::size_t dot = module.find('.');
    if (dot != std::string_view::npos && 2 * ++beginnings[module.substr(0, dot + 1)] > modules.size()) {
      return std::string(module.substr(0, dot + 1));
    }
  }
  return {};
}

// The output heads that a model may have without a tensor of their own, because they are tied to the embedding.
std::vector<std::string> UsualHeads(const std::set<std::string_view>& modules, const std::string& config_json) {
  std::vector<std::string> heads = {"lm_head"};  // loaders take it for "lm_head.decoder" too
  const auto is_prediction = [](std::string_view module) {
    return MatchesModule("predictions.transform.dense", module);
  };
  if (std::any_of(modules.begin(), modules.end(), is_prediction)) heads.push_back("cls.predictions.decoder");
  if (const auto names = ModelKinds(config_json); names.ok()) {
    for (const PolicyRule* rule : RulesFor(*names)) {
      // A rule's item names one module for certain only if it is a single one, anchored at the root.
      const bool is_root_name = rule->modules.starts_with('^') && rule->modules.find(' ') == std::string_view::npos;
      if (rule->reason == kOutputHead && is_root_name) heads.emplace_back(rule->modules.substr(1));
    }
  }
  return heads;
}

// Of a module that a rule of the policy says is shared with others, the shortest ending that says so:
// "shared_transf.fc1" of "model.layers.5.shared_transf.fc1", which is in other layers as well; else "".
std::string_view SharedEnding(const std::vector<const PolicyRule*>& rules, std::string_view module) {
  for (const PolicyRule* rule : rules) {
    if (rule->reason != kTied || !MatchesModule(rule->modules, module)) continue;
    std::string_view shortest = module;
    for (std::size_t dot = module.find('.'); dot != std::string_view::npos; dot = module.find('.', dot + 1)) {
      if (MatchesModule(rule->modules, module.substr(dot + 1))) shortest = module.substr(dot + 1);
    }
    return shortest;
  }
  return {};
}

// Experts that loaders hold fused are one module, "mlp.experts": a list of them one by one would be read for minutes.
std::string_view WithoutExpert(std::string_view module, bool fused) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = fused ? module.rfind(kExperts) : std::string_view::npos;
  return at == std::string_view::npos ? module : module.substr(0, at + kExperts.size() - 1);
}

}  // namespace

SkipList ModulesToSkip(const std::vector<SourceTensor>& tensors, const std::vector<bool>& quantized,
                       const std::string& config_json) {
  const ModuleNames names(config_json);
  // Loaders replace modules that have a two-dimensional weight, and no others. The first list is on disk, the others in
  // memory, where a module of the disk may be several.
  std::set<std::string_view> on_disk;
  std::vector<std::string> modules, disk_names;
  std::vector<bool> is_quantized, is_layer;
  const auto fused = FusedExperts(tensors, config_json);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const bool is_expert = fused.ok() && (*fused)[i];
    const std::string_view module = WithoutExpert(ModuleOf(tensors[i].name), is_expert);
    if (module.size() == tensors[i].name.size() || tensors[i].shape.size() != 2) {
      // A quantized parameter that is no layer's is not to be caught either.
      if (!quantized[i]) continue;
    }
    on_disk.insert(module);
    for (std::string& name : names.InMemory(module)) {
      modules.push_back(std::move(name));
      disk_names.emplace_back(module);
      is_quantized.push_back(quantized[i]);
      is_layer.push_back(!is_expert);
    }
  }
  const std::string base = BasePrefix(modules, config_json);
  const auto without_base = [&base](const std::string& name) {
    return !base.empty() && name.starts_with(base) ? name.substr(base.size()) : name;
  };

  QuantizedModules caught;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (!is_quantized[i]) continue;
    for (const std::string& name : {modules[i], without_base(modules[i]), disk_names[i]}) caught.Add(name);
  }
  std::set<std::string> entries, uncertain;
  const auto add = [&](const std::string& module, const std::string& disk_name, bool layer) {
    for (const std::string& name : {module, without_base(module), disk_name}) {
      if (!caught.CaughtBySome(name)) entries.insert(name);
    }
    // Experts are no layers to transformers, which never asks for them.
    if (!layer || !caught.CaughtBySome(module)) return;
    // The modules above are no way out: they end those above the quantized module.
    uncertain.insert(module);
    entries.insert(caught.CaughtByTransformers(module) ? fmt::format("^{}$", module) : module);
  };
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (!is_quantized[i]) add(modules[i], disk_names[i], is_layer[i]);
  }
  // A shared module has one tensor and several names.
  const auto kinds = ModelKinds(config_json);
  const std::vector<const PolicyRule*> rules = RulesFor(kinds.ok() ? *kinds : std::vector<std::string>());
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (is_quantized[i]) continue;
    const std::string_view shared = SharedEnding(rules, modules[i]);
    if (!shared.empty() && !caught.CaughtBySome(shared)) entries.emplace(shared);
  }
  // Of a class that is known, its own heads; for one that is not, what they are called as a rule, where that does no
  // harm.
  const std::set<std::string_view> in_memory(modules.begin(), modules.end());
  for (const std::string& head : names.heads()) {
    if (!in_memory.contains(head)) add(head, head, true);
  }
  for (const std::string& head : UsualHeads(on_disk, config_json)) {
    if (!in_memory.contains(head) && !caught.CaughtBySome(head)) entries.insert(head);
  }
  // What vLLM joins it looks for by the joined name.
  for (const std::vector<std::string>* list : {&modules, &disk_names}) {
    for (const FusedLayer& layer : FusedLayers(*list, is_quantized)) {
      if (!layer.quantized.empty()) continue;
      const std::string joined = fmt::format("{}.{}", layer.parent, layer.name);
      if (!caught.CaughtBySome(joined)) entries.insert(joined);
    }
  }
  return {{entries.begin(), entries.end()}, {uncertain.begin(), uncertain.end()}};
}

}  // namespace q4
