// For each tensor: the default policy, then the recipe, then the command line's patterns; what cannot be quantized is
// kept whatever they say. Each step overwrites what it has an opinion on, so the later one wins, and the reason is
// always that of the step that decided.
#include "libconvert/policy/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "formats/base/status.h"
#include "formats/bnb/taken_over.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/policy_issues.h"

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
      const char* const verb = *rule.keep ? "kept" : "quantized";
      decision.reason =
          rule.chosen ? fmt::format("{}: chosen for the budget", verb) : fmt::format("{}: recipe rule {}", verb, i + 1);
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

// Why no rule can quantize this tensor, or "".
std::string WhyImpossible(const SourceTensor& tensor) {
  if (!IsQuantizable(tensor.dtype)) return fmt::format("dtype {}", DTypeName(tensor.dtype));
  if (tensor.elems == 0) return "no elements";
  return "";
}

// `tensor` is taken over: whether what was asked for is what it has.
absl::Status CheckAsked(const SourceTensor& tensor, const PolicyOptions& options) {
  const QuantFormat &has = *tensor.bnb, &wants = options.defaults;
  const AskedSettings& asked = options.asked;
  const auto differs = [&tensor](const char* option, std::string_view wanted, std::string_view found) {
    return Fail(kTakenOverSettings, option, fmt::format("tensor '{}'", tensor.name), GotExpected(wanted, found));
  };
  const auto on_off = [](bool on) { return on ? "on" : "off"; };
  if (asked.scheme && has.scheme != wants.scheme) {
    return differs("--type", Q4SchemeName(wants.scheme), Q4SchemeName(has.scheme));
  }
  if (asked.block_size && has.block_size != wants.block_size) {
    return differs("--block-size", fmt::to_string(wants.block_size), fmt::to_string(has.block_size));
  }
  if (asked.nested && has.nested != wants.nested) {
    return differs("--double-quant", on_off(wants.nested), on_off(has.nested));
  }
  if (asked.encoder) return differs("--encoder", Q4EncoderName(options.defaults.encoder), "no --encoder");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Decision>> TakeOverTensors(const std::vector<SourceTensor>& tensors,
                                                      const PolicyOptions& options) {
  if (!options.patterns.empty()) {
    return Fail(kTakenOverRules, options.patterns.front().include ? "--include" : "--exclude",
                options.patterns.front().regex);
  }
  if (options.recipe) return Fail(kTakenOverRules, "--recipe", {});
  std::vector<Decision> decisions;
  decisions.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) {
    Decision& decision = decisions.emplace_back();
    decision.quantize = tensor.bnb != nullptr;
    decision.reason = decision.quantize ? "taken over from bitsandbytes" : "not quantized in the source";
    if (!decision.quantize) continue;
    Q4_RETURN_IF_ERROR(CheckAsked(tensor, options));
    decision.settings = QuantSettings(*tensor.bnb, Q4Encoder::kNone);
  }
  return decisions;
}

}  // namespace

absl::StatusOr<std::vector<Decision>> DecideTensors(const std::vector<SourceTensor>& tensors,
                                                    const ModelConfigs& configs, const PolicyOptions& options) {
  if (std::any_of(tensors.begin(), tensors.end(), [](const SourceTensor& tensor) { return tensor.bnb != nullptr; })) {
    return TakeOverTensors(tensors, options);
  }
  // What can fail comes first: a broken config.json, then a broken pattern, before any of the user's rules is applied.
  Q4_ASSIGN_OR_RETURN(const std::vector<DefaultVerdict> defaults, DefaultVerdicts(tensors, configs));
  Q4_ASSIGN_OR_RETURN(const std::vector<CompiledPattern> patterns, Compile(options.patterns));

  std::vector<Decision> decisions;
  decisions.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SourceTensor& tensor = tensors[i];
    Decision decision;
    decision.settings = options.defaults;
    decision.quantize = defaults[i].quantize;
    decision.reason = defaults[i].reason;
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
