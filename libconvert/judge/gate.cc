// Strict on purpose, as recipes are: a misspelt key in a gate would pass every model.
//
// The table of statistics, then the readers of a rule's keys (ReadKey knows them all), then the checks that need the
// whole rule. Faults are reported one at a time, the first in the order of the file.
#include "libconvert/judge/gate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "kernels/kernels.h"
#include "libconvert/base/nearest.h"
#include "libconvert/judge/evaluation_issues.h"
#include "libconvert/judge/gate_issues.h"
#include "libconvert/model/stats.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

using Scope = GateVerdict::Scope;

constexpr int kGateJsonDepth = 3;  // document, "rules", rule

// Counts are limited as doubles, exact up to 2^53.
double Of(std::uint64_t count) { return static_cast<double>(count); }

// The order of docs/gates.md. A new statistic is a row here, a row there and a property of the schema.
constexpr std::array<GateStatistic, 16> kStatistics{{
    {"nmse", [](const Q4Stats& s) { return Derive(s).nmse; }},
    {"sqnr_db", [](const Q4Stats& s) { return Derive(s).sqnr_db; }},
    {"mse", [](const Q4Stats& s) { return Derive(s).mse; }},
    {"rmse", [](const Q4Stats& s) { return Derive(s).rmse; }},
    {"mae", [](const Q4Stats& s) { return Derive(s).mae; }},
    {"bias", [](const Q4Stats& s) { return std::fabs(Derive(s).bias); }},
    {"cosine", [](const Q4Stats& s) { return Derive(s).cosine; }},
    {"max_abs_err", [](const Q4Stats& s) { return s.max_abs_err; }},
    {"max_gap_ratio", [](const Q4Stats& s) { return s.max_gap_ratio; }},
    {"worst_block_e2", [](const Q4Stats& s) { return s.worst_block_e2; }},
    {"clipped", [](const Q4Stats& s) { return Of(s.clipped); }},
    {"clipped_share", [](const Q4Stats& s) { return s.count == 0 ? 0 : Of(s.clipped) / Of(s.count); }},
    {"overflow", [](const Q4Stats& s) { return Of(s.overflow); }},
    {"zero_blocks", [](const Q4Stats& s) { return Of(s.zero_blocks); }},
    {"code_entropy_bits", [](const Q4Stats& s) { return CodeEntropyBits(s); }},
    {"absmax_ratio", nullptr, [](const AbsmaxComparison& a) { return a.Ratio(); }},
}};

// Numbers of an evaluation, as statistics without a function. By name, as theirs.
const std::vector<GateStatistic>& EvaluationStatistics() {
  static const std::vector<GateStatistic>* const statistics = [] {
    auto* made = new std::vector<GateStatistic>;
    for (const EvaluationNumber& number : EvaluationNumbers()) made->push_back({number.name, nullptr});
    return made;
  }();
  return *statistics;
}

// Null when there is none of that name.
const GateStatistic* FindStatistic(std::string_view name) {
  const auto is_named = [&](const GateStatistic& statistic) { return statistic.name == name; };
  const auto at = std::find_if(kStatistics.begin(), kStatistics.end(), is_named);
  if (at != kStatistics.end()) return &*at;
  const std::vector<GateStatistic>& others = EvaluationStatistics();
  const auto other = std::find_if(others.begin(), others.end(), is_named);
  return other == others.end() ? nullptr : &*other;
}

// One rule of the file, and how to name it in an error. Views into the document that ParseGate holds.
struct GateRuleSource {
  const Json& json;
  const std::string& file;
  std::string where;  // "rule 3", counted from 1

  absl::Status Wrong(std::string_view key, const Json& value, std::string_view expected) const {
    return Fail(kGateValue, file, fmt::format("{}, {}", where, key), GotExpected(value.dump(-1, ' ', true), expected));
  }
  // Names the nearest key, and all of them.
  absl::Status Unknown(const std::string& key) const;
};

// The Read functions take a key's value into the rule, or fail with kGateValue.
absl::Status ReadScope(const GateRuleSource& text, const Json& value, GateRule* rule) {
  constexpr std::array<std::pair<std::string_view, Scope>, 5> kScopes{{{"tensor", Scope::kTensor},
                                                                       {"layer", Scope::kLayer},
                                                                       {"role", Scope::kRole},
                                                                       {"model", Scope::kModel},
                                                                       {"evaluation", Scope::kEvaluation}}};
  for (const auto& [word, scope] : kScopes) {
    // Anything but a string matches no word and falls through to the message.
    if (!value.is_string() || value.get_ref<const std::string&>() != word) continue;
    rule->scope = scope;
    return absl::OkStatus();
  }
  return text.Wrong("scope", value, "\"tensor\", \"layer\", \"role\", \"model\" or \"evaluation\"");
}

// The table of schemes knows the names; a scheme that is added there can be named here at once.
absl::Status ReadType(const GateRuleSource& text, const Json& value, GateRule* rule) {
  const Scheme* scheme = value.is_string() ? FindScheme(value.get_ref<const std::string&>()) : nullptr;
  if (scheme == nullptr) return text.Wrong("type", value, QuotedChoice(SchemeNames()));
  rule->scheme = scheme->id;
  return absl::OkStatus();
}

// Such as can be asked for: what was taken over names none.
absl::Status ReadEncoder(const GateRuleSource& text, const Json& value, GateRule* rule) {
  const Q4EncoderRow* encoder = value.is_string() ? FindQ4Encoder(value.get_ref<const std::string&>()) : nullptr;
  if (encoder == nullptr) {
    std::vector<std::string> names;
    for (const Q4EncoderRow& row : Q4NamedEncoders()) names.emplace_back(row.name);
    return text.Wrong("encoder", value, QuotedChoice(names));
  }
  rule->encoder = encoder->encoder;
  return absl::OkStatus();
}

// An integer: 64.0 is refused as -64 is.
absl::Status ReadBlockSize(const GateRuleSource& text, const Json& value, GateRule* rule) {
  if (!value.is_number_unsigned() || !IsBlockSize(value.get<std::uint64_t>())) {
    return text.Wrong("block_size", value, "a power of two from 32 to 4096");
  }
  rule->block_size = value.get<std::uint32_t>();
  return absl::OkStatus();
}

// Any key that ReadKey does not know: "max_" or "min_" and a statistic, or an unknown key.
absl::Status ReadLimit(const GateRuleSource& text, const std::string& key, const Json& value, GateRule* rule) {
  // Both prefixes have four characters.
  const bool is_maximum = key.starts_with("max_");
  const GateStatistic* statistic =
      is_maximum || key.starts_with("min_") ? FindStatistic(std::string_view(key).substr(4)) : nullptr;
  if (statistic == nullptr) return text.Unknown(key);
  GateLimit limit{statistic, is_maximum, std::nullopt};
  if (!value.is_null()) {
    // null lifts earlier limits; infinity would be a limit that cannot be broken.
    if (!value.is_number() || !std::isfinite(value.get<double>())) return text.Wrong(key, value, "a number or null");
    limit.limit = value.get<double>();
  }
  rule->limits.push_back(limit);
  return absl::OkStatus();
}

absl::Status ReadName(const GateRuleSource& text, const Json& value, GateRule* rule) {
  if (!value.is_string()) return text.Wrong("name", value, "a string");
  rule->name = value.get<std::string>();
  return absl::OkStatus();
}

absl::Status ReadMatch(const GateRuleSource& text, const Json& value, GateRule* rule) {
  if (!value.is_string()) return text.Wrong("match", value, "a string");
  Q4_ASSIGN_OR_RETURN(rule->match,
                      NamePattern::Parse(value.get<std::string>(), fmt::format("{}: {}", text.file, text.where)));
  return absl::OkStatus();
}

absl::Status ReadOptional(const GateRuleSource& text, const Json& value, GateRule* rule) {
  if (!value.is_boolean()) return text.Wrong("optional", value, "true or false");
  rule->optional = value.get<bool>();
  return absl::OkStatus();
}

// The names of the file are those of docs/gates.md; "type" is what the code calls a scheme. All other keys are limits.
struct KeyReader {
  std::string_view key;
  absl::Status (*read)(const GateRuleSource& text, const Json& value, GateRule* rule);
};
constexpr KeyReader kKeys[] = {
    {"scope", ReadScope}, {"match", ReadMatch},       {"type", ReadType},       {"block_size", ReadBlockSize},
    {"name", ReadName},   {"optional", ReadOptional}, {"encoder", ReadEncoder},
};

absl::Status GateRuleSource::Unknown(const std::string& key) const {
  std::vector<std::string> keys;
  std::string list;
  for (const KeyReader& reader : kKeys) {
    keys.emplace_back(reader.key);
    list += std::string(reader.key) + ", ";
  }
  list += "and max_ or min_ before";
  for (const GateStatistic& statistic : kStatistics) {
    for (const std::string_view prefix : {"max_", "min_"}) keys.push_back(std::string(prefix).append(statistic.name));
    list += fmt::format("{} {}", &statistic == kStatistics.data() ? "" : ",", statistic.name);
  }
  list += ", and with the scope evaluation its numbers (docs/evaluate.md)";
  for (const GateStatistic& statistic : EvaluationStatistics()) {
    for (const std::string_view prefix : {"max_", "min_"}) keys.push_back(std::string(prefix).append(statistic.name));
  }
  return Fail(kGateUnknownKey, file, where, UnknownKey(key, keys, list));
}

absl::Status ReadKey(const GateRuleSource& text, const std::string& key, const Json& value, GateRule* rule) {
  for (const KeyReader& reader : kKeys) {
    if (reader.key == key) return reader.read(text, value, rule);
  }
  return ReadLimit(text, key, value, rule);
}

// The rule of one JSON object, checked as a whole in the end.
absl::StatusOr<GateRule> ParseGateRule(const GateRuleSource& text) {
  if (!text.json.is_object()) return Fail(kGateShape, text.file, text.where);
  GateRule rule;
  // Until the file names it.
  rule.name = text.where;
  for (const auto& [key, value] : text.json.items()) Q4_RETURN_IF_ERROR(ReadKey(text, key, value, &rule));
  // These need all keys, whose order is the JSON parser's.
  if (rule.limits.empty()) return Fail(kGateEmptyRule, text.file, text.where);
  const bool of_evaluation = rule.scope == Scope::kEvaluation;
  if ((rule.scope == Scope::kModel || of_evaluation) && rule.match) {
    return Fail(kGateScope, text.file, text.where, "match");
  }
  for (const GateLimit& limit : rule.limits) {
    if (limit.statistic->of_evaluation() == of_evaluation) continue;
    return Fail(
        kGateScope, text.file, text.where,
        fmt::format("{}_{}; {} \"scope\": \"evaluation\"", limit.is_maximum ? "max" : "min", limit.statistic->name,
                    of_evaluation ? "no number of an evaluation, so not with" : "it needs"));
  }
  // Layers, roles and the model may mix types, block sizes and encoders.
  if (rule.scope != Scope::kTensor && (rule.scheme || rule.block_size || rule.encoder)) {
    return Fail(kGateScope, text.file, text.where, rule.scheme ? "type" : rule.block_size ? "block_size" : "encoder");
  }
  return rule;
}

}  // namespace

std::span<const GateStatistic> GateStatistics() { return kStatistics; }

absl::StatusOr<Gate> ParseEvaluationLimit(std::string_view text, std::string_view flag) {
  const auto wrong = [&](std::string_view expected) { return Fail(kBadLimit, {}, flag, GotExpected(text, expected)); };
  constexpr std::string_view kForm = "NAME <= NUMBER or NAME >= NUMBER, such as kl_mean <= 0.02";
  const auto trimmed = [](std::string_view part) {
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    return part;
  };
  const std::size_t at = text.find_first_of("<>");
  if (at == std::string_view::npos || text.substr(at + 1, 1) != "=") return wrong(kForm);
  const std::string_view name = trimmed(text.substr(0, at)), number = trimmed(text.substr(at + 2));
  GateRule rule;
  rule.name = flag;
  rule.scope = Scope::kEvaluation;
  const GateStatistic* statistic = FindStatistic(name);
  if (statistic == nullptr || !statistic->of_evaluation()) {
    std::vector<std::string> names;
    for (const EvaluationNumber& known : EvaluationNumbers()) names.emplace_back(known.name);
    return wrong(fmt::format("a number of an evaluation: {}; a gate file limits other statistics{}",
                             fmt::join(names, ", "), DidYouMean(name, names)));
  }
  double limit = 0;
  const auto [rest, error] = std::from_chars(number.data(), number.data() + number.size(), limit);
  if (error != std::errc() || rest != number.data() + number.size() || !std::isfinite(limit)) return wrong(kForm);
  rule.limits.push_back({statistic, text[at] == '<', limit});
  return Gate{std::string(flag), {std::move(rule)}};
}

namespace {

// The first rule that is not optional and limits such a number, as a place in messages; "" if none does.
std::string RuleBesideAbsmax(const Gate& gate) {
  for (const GateRule& rule : gate.rules) {
    const bool limits = std::any_of(rule.limits.begin(), rule.limits.end(), [](const GateLimit& limit) {
      return limit.limit && limit.statistic->of_absmax != nullptr;
    });
    if (limits && !rule.optional) return fmt::format("gate '{}'", rule.name);
  }
  return {};
}

}  // namespace

bool NeedsAbsmaxComparison(const std::vector<Gate>& gates) {
  return std::any_of(gates.begin(), gates.end(), [](const Gate& gate) { return !RuleBesideAbsmax(gate).empty(); });
}

absl::Status CheckNeedsNoAbsmax(const std::vector<Gate>& gates, std::string_view way) {
  for (const Gate& gate : gates) {
    const std::string rule = RuleBesideAbsmax(gate);
    if (!rule.empty()) return Fail(kGateNeedsAbsmax, gate.file, rule, way);
  }
  return absl::OkStatus();
}

absl::Status CheckNeedsNoEvaluation(const std::vector<Gate>& gates, std::string_view way) {
  for (const Gate& gate : gates) {
    for (const GateRule& rule : gate.rules) {
      if (rule.scope != Scope::kEvaluation || rule.optional) continue;
      return Fail(kGateNeedsEvaluation, gate.file, fmt::format("gate '{}'", rule.name), way);
    }
  }
  return absl::OkStatus();
}

// For names that the code itself has, as those of the flags.
const GateStatistic& GateStatisticNamed(std::string_view name) { return *FindStatistic(name); }

absl::StatusOr<Gate> ParseGate(std::string_view json, const std::string& file) {
  Q4_ASSIGN_OR_RETURN(const Json document, ParseJson(json, file, kGateJsonDepth));
  if (!document.is_object() || !document.contains("rules") || !document.at("rules").is_array() ||
      // An empty gate would pass every model.
      document.at("rules").empty()) {
    return Fail(kGateShape, file, "");
  }
  for (const auto& [key, value] : document.items()) {
    if (key != "rules") return Fail(kGateUnknownKey, file, "", UnknownKey(key, {"rules"}, "rules, and nothing else"));
  }
  Gate gate{file, {}};
  for (const Json& rule_json : document.at("rules")) {
    Q4_ASSIGN_OR_RETURN(GateRule rule, ParseGateRule({rule_json, file, fmt::format("rule {}", gate.rules.size() + 1)}));
    gate.rules.push_back(std::move(rule));
  }
  return gate;
}

absl::StatusOr<Gate> LoadGate(FileSystem& fs, const std::string& path) {
  // Through the same parser, so that the embedded gate is held to the same rules.
  if (path == kDefaultGateName) return ParseGate(kDefaultGateJson, path);
  const absl::StatusOr<std::string> json = ReadWholeFile(fs, path, limits::kConfigJsonBytes);
  // "defualt" is no file, and no gate either.
  if (IssueNumberOf(json.status()) == kCannotOpen.number) {
    const std::string meant = DidYouMean(path, {std::string(kDefaultGateName)});
    if (!meant.empty()) return Fail(kCannotOpen, path, {}, "there is no such file" + meant);
  }
  if (!json.ok()) return json.status();
  return ParseGate(*json, path);
}

Gate FlagGate(std::string_view flag, std::string_view statistic, bool is_maximum, double limit, const Issue& issue) {
  GateRule rule;
  rule.name = flag;
  rule.optional = true;
  rule.limits.push_back({&GateStatisticNamed(statistic), is_maximum, limit});
  rule.issue = &issue;
  // One rule for each tensor, one for the model; layers and roles lie between and need none.
  Gate gate{"", {rule, rule}};
  gate.rules.back().scope = Scope::kModel;
  return gate;
}

}  // namespace q4
