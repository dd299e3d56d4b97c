// For each tensor: the default policy, then the recipe, then the command line's patterns; what cannot be quantized is
// kept whatever they say. Each step overwrites what it has an opinion on, so the later one wins, and the reason is
// always that of the step that decided.
#include "libconvert/policy/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/policy/default.h"
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

}  // namespace q4
