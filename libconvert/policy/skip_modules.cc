#include "libconvert/policy/skip_modules.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "libconvert/policy/default.h"
#include "libconvert/policy/rules.h"

namespace q4 {
namespace {

// The quantized modules, asked whether an entry of a skip list would catch one of them. A loader takes an entry for a
// prefix of dotted names and for a suffix of any name, so a module catches another one that begins with "module." or
// ends in "module". Both are looked up in sorted sets, a name and its reverse.
class SkipSet {
 public:
  SkipSet(const std::vector<SourceTensor>& tensors, const std::vector<bool>& quantized) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (!quantized[i]) continue;
      const std::string_view module = ModuleOf(tensors[i].name);
      by_begin_.emplace(module);
      by_end_.emplace(module.rbegin(), module.rend());
    }
  }

  // `module` as an entry that catches no quantized module.
  std::string EntryFor(std::string_view module) const {
    const bool catches = HasPrefix(by_begin_, std::string(module) + ".") ||
                         HasPrefix(by_end_, std::string(module.rbegin(), module.rend()));
    return catches ? fmt::format("^{}$", module) : std::string(module);
  }

 private:
  // The first name not below the prefix has it, if any has.
  static bool HasPrefix(const std::set<std::string>& names, const std::string& prefix) {
    const auto found = names.lower_bound(prefix);
    return found != names.end() && found->starts_with(prefix);
  }

  std::set<std::string> by_begin_;
  std::set<std::string> by_end_;  // each name reversed
};

// The output heads that a model may have without a tensor of their own, because they are tied to the embedding.
std::vector<std::string> TiedHeads(const std::set<std::string_view>& modules, const std::string& config_json) {
  std::vector<std::string> heads = {"lm_head"};  // the loader takes it for "lm_head.decoder" too
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

}  // namespace

std::vector<std::string> ModulesToSkip(const std::vector<SourceTensor>& tensors, const std::vector<bool>& quantized,
                                       const std::string& config_json) {
  const SkipSet quantized_modules(tensors, quantized);
  std::set<std::string> skip;
  const auto add = [&](std::string_view module) { skip.insert(quantized_modules.EntryFor(module)); };
  std::set<std::string_view> modules;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string_view module = ModuleOf(tensors[i].name);
    // Loaders replace modules that have a two-dimensional weight, and no others.
    if (module.size() == tensors[i].name.size() || tensors[i].shape.size() != 2) continue;
    modules.insert(module);
    if (!quantized[i]) add(module);
  }
  for (const std::string& head : TiedHeads(modules, config_json)) {
    if (!modules.contains(head)) add(head);
  }
  return {skip.begin(), skip.end()};
}

}  // namespace q4
