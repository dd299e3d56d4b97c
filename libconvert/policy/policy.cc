// For each tensor: the default policy, then the recipe, then the command line's patterns; what cannot be quantized is
// kept whatever they say. Each step overwrites what it has an opinion on, so the later one wins, and the reason is
// always that of the step that decided.
//
// The second half of the file answers the opposite question, for exporters: which modules must a loader leave alone.
#include "libconvert/policy/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/rules.h"
#include "libconvert/policy/wrappers.h"

namespace q4 {
namespace {

// One --include or --exclude, compiled.
struct CompiledPattern {
  NamePattern pattern;
  bool include;
};

absl::StatusOr<std::vector<CompiledPattern>> Compile(const std::vector<PatternRule>& rules) {
  std::vector<CompiledPattern> compiled;
  compiled.reserve(rules.size());
  for (const PatternRule& rule : rules) {
    Q4_ASSIGN_OR_RETURN(NamePattern pattern, NamePattern::Parse(rule.regex, rule.include ? "--include" : "--exclude"));
    compiled.push_back({std::move(pattern), rule.include});
  }
  return compiled;
}

// The rules of the recipe that match, in order, onto `decision`.
void Apply(const Recipe& recipe, std::string_view name, Decision& decision) {
  for (std::size_t i = 0; i < recipe.rules.size(); ++i) {
    const RecipeRule& rule = recipe.rules[i];
    if (!rule.match.Matches(name)) continue;
    // Settings and the choice to quantize are independent: a rule without "keep" changes how, not whether, and leaves
    // the reason.
    if (rule.scheme) decision.settings.scheme = *rule.scheme;
    if (rule.block_size) decision.settings.block_size = *rule.block_size;
    if (rule.double_quant) decision.settings.nested = *rule.double_quant;
    if (rule.encoder) decision.settings.encoder = *rule.encoder;
    if (rule.keep) {
      decision.quantize = !*rule.keep;
      decision.reason = fmt::format("{}: recipe rule {}", *rule.keep ? "kept" : "quantized", i + 1);
    }
  }
}

void Apply(const std::vector<CompiledPattern>& patterns, std::string_view name, Decision& decision) {
  // From the back: the last one on the command line wins.
  const auto last = std::find_if(patterns.rbegin(), patterns.rend(),
                                 [name](const CompiledPattern& rule) { return rule.pattern.Matches(name); });
  if (last == patterns.rend()) return;
  decision.quantize = last->include;
  decision.reason = last->include ? fmt::format("quantized: --include '{}'", last->pattern.text())
                                  : fmt::format("kept: --exclude '{}'", last->pattern.text());
}

// The tensors under the names that they have in the model, where a wrapper has changed them; else none.
std::vector<SourceTensor> Unwrapped(const std::vector<SourceTensor>& tensors) {
  const NameWrappers wrappers(tensors);
  if (wrappers.empty()) return {};
  std::vector<SourceTensor> unwrapped = tensors;
  for (std::size_t i = 0; i < unwrapped.size(); ++i) unwrapped[i].name = wrappers.names()[i];
  return unwrapped;
}

// Why no rule can quantize this tensor, or "".
std::string WhyImpossible(const SourceTensor& tensor) {
  if (!IsQuantizable(tensor.dtype)) return fmt::format("dtype {}", DTypeName(tensor.dtype));
  if (tensor.elems == 0) return "no elements";
  return "";
}

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

absl::StatusOr<std::vector<Decision>> DecideTensors(const std::vector<SourceTensor>& tensors,
                                                    const std::string& config_json, const PolicyOptions& options) {
  // What can fail comes first: a broken config.json, then a broken pattern, before anything is decided.
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> model_names, ModelKinds(config_json));
  Q4_ASSIGN_OR_RETURN(const std::vector<CompiledPattern> patterns, Compile(options.patterns));
  // The default sees the names that the model itself has; recipes and patterns see those that the user sees.
  const std::vector<SourceTensor> unwrapped = Unwrapped(tensors);
  const std::vector<SourceTensor>& named = unwrapped.empty() ? tensors : unwrapped;
  const DefaultPolicy policy(named, model_names);

  std::vector<Decision> decisions;
  decisions.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SourceTensor& tensor = tensors[i];
    Decision decision;
    decision.settings = options.defaults;
    const DefaultVerdict verdict = policy.Decide(named[i]);
    decision.quantize = verdict.quantize;
    decision.reason = verdict.reason;
    if (options.recipe) Apply(*options.recipe, tensor.name, decision);
    Apply(patterns, tensor.name, decision);
    // Last, so that no rule can ask for what the kernels cannot do.
    if (std::string why = WhyImpossible(tensor); !why.empty()) {
      decision.quantize = false;
      decision.reason = std::move(why);
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

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
