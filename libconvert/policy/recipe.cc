// Strict on purpose: a misspelt key in a recipe would silently ship a model that is not the one that was asked for. So
// every key must be known, every value of the right type and range, and every rule must change something; the first
// fault is reported with its rule and key.
//
// Reading: one function per type of value, and ParseRecipeRule, which knows the keys. Writing: RecipeText, the
// canonical form for the provenance.
#include "libconvert/policy/recipe.h"

#include <fmt/format.h>

#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/base/nearest.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/policy/policy_issues.h"

namespace q4 {
namespace {

// A deeper document cannot be a recipe, so the parser may stop there.
constexpr int kRecipeJsonDepth = 3;  // document, "rules", rule

// One rule of the file, and how to name it in an error. Views into the document that ParseRecipe holds.
struct RecipeRuleSource {
  const Json& json;
  const std::string& file;
  std::string where;  // "rule 3", counted from 1
  bool recorded;      // in a container: any encoder that a container may name

  absl::Status Wrong(std::string_view key, std::string_view expected) const {
    return Fail(kRecipeValue, file, fmt::format("{}, {}", where, key), GotExpected(json[key].dump(), expected));
  }
};

// The Read functions take the value of `key`, which is there, into `out`, or fail with kRecipeValue.
absl::Status ReadBool(const RecipeRuleSource& rule, const std::string& key, std::optional<bool>& out) {
  if (!rule.json.at(key).is_boolean()) return rule.Wrong(key, "true or false");
  out = rule.json.at(key).get<bool>();
  return absl::OkStatus();
}

absl::Status ReadBlockSize(const RecipeRuleSource& rule, const std::string& key, std::optional<std::uint32_t>& out) {
  const Json& value = rule.json.at(key);
  // 64.0 is refused as -64 is: a block size is written as an integer.
  if (!value.is_number_unsigned() || !IsBlockSize(value.get<std::uint64_t>())) {
    return rule.Wrong(key, "a power of two from 32 to 4096");
  }
  out = value.get<std::uint32_t>();
  return absl::OkStatus();
}

// "type" in the file, as on the command line; the table of schemes knows the names.
absl::Status ReadScheme(const RecipeRuleSource& rule, const std::string& key, std::optional<Q4Scheme>& out) {
  const Json& json = rule.json.at(key);
  const Scheme* scheme = json.is_string() ? FindScheme(json.get_ref<const std::string&>()) : nullptr;
  if (scheme == nullptr) return rule.Wrong(key, QuotedChoice(SchemeNames()));
  out = scheme->id;
  return absl::OkStatus();
}

absl::Status ReadEncoder(const RecipeRuleSource& rule, const std::string& key, std::optional<Q4Encoder>& out) {
  const Json& json = rule.json.at(key);
  const Q4EncoderRow* row = json.is_string() ? FindQ4Encoder(json.get_ref<const std::string&>()) : nullptr;
  if (row == nullptr) return rule.Wrong(key, QuotedChoice(EncoderNames()));
  // Refused here and not when a tensor matches: the same recipe must not work for one model and fail for the next.
  if (!rule.recorded && FindEncoder(row->encoder) == nullptr) {
    return Fail(kEncoderNotBuilt, rule.file, fmt::format("{}, encoder {}", rule.where, row->name));
  }
  out = row->encoder;
  return absl::OkStatus();
}

// The keys of docs/policy.md, which the function below reads.
std::string UnknownRecipeKey(const std::string& key) {
  const std::vector<std::string> keys = {"match", "type", "block_size", "double_quant", "encoder", "keep"};
  return UnknownKey(key, keys, fmt::format("{}", fmt::join(keys, ", ")));
}

absl::StatusOr<RecipeRule> ParseRecipeRule(const RecipeRuleSource& text) {
  if (!text.json.is_object() || !text.json.contains("match") || !text.json.at("match").is_string()) {
    return Fail(kRecipeShape, text.file, text.where);
  }
  Q4_ASSIGN_OR_RETURN(NamePattern match, NamePattern::Parse(text.json.at("match").get<std::string>(),
                                                            fmt::format("{}: {}", text.file, text.where)));
  RecipeRule rule{std::move(match), {}, {}, {}, {}, {}};
  for (const auto& [key, value] : text.json.items()) {
    if (key == "match") continue;
    if (key == "type") {
      Q4_RETURN_IF_ERROR(ReadScheme(text, key, rule.scheme));
    } else if (key == "block_size") {
      Q4_RETURN_IF_ERROR(ReadBlockSize(text, key, rule.block_size));
    } else if (key == "double_quant") {
      Q4_RETURN_IF_ERROR(ReadBool(text, key, rule.double_quant));
    } else if (key == "encoder") {
      Q4_RETURN_IF_ERROR(ReadEncoder(text, key, rule.encoder));
    } else if (key == "keep") {
      Q4_RETURN_IF_ERROR(ReadBool(text, key, rule.keep));
    } else {
      return Fail(kRecipeUnknownKey, text.file, text.where, UnknownRecipeKey(key));
    }
  }
  // After the keys, so that an unknown key is reported as such.
  if (text.json.size() == 1) return Fail(kRecipeEmptyRule, text.file, text.where);
  return rule;
}

absl::StatusOr<Recipe> ParseRules(std::string_view json, const std::string& file, bool recorded) {
  Q4_ASSIGN_OR_RETURN(const Json document, ParseJson(json, file, kRecipeJsonDepth));
  if (!document.is_object() || !document.contains("rules") || !document.at("rules").is_array()) {
    return Fail(kRecipeShape, file, "");
  }
  // Beside "rules" nothing is allowed: a setting at the top would look effective and be ignored.
  for (const auto& [key, value] : document.items()) {
    if (key != "rules") return Fail(kRecipeUnknownKey, file, "", UnknownKey(key, {"rules"}, "rules, and nothing else"));
  }
  Recipe recipe;
  for (const Json& rule_json : document.at("rules")) {
    Q4_ASSIGN_OR_RETURN(RecipeRule rule,
                        ParseRecipeRule({rule_json, file, fmt::format("rule {}", recipe.rules.size() + 1), recorded}));
    recipe.rules.push_back(std::move(rule));
  }
  return recipe;
}

}  // namespace

absl::StatusOr<Recipe> ParseRecipe(std::string_view json, const std::string& file) {
  return ParseRules(json, file, /*recorded=*/false);
}

absl::StatusOr<Recipe> ParseRecordedRecipe(std::string_view json, const std::string& place) {
  return ParseRules(json, place, /*recorded=*/true);
}

std::string RecipeText(const Recipe& recipe) {
  // Keys in bytewise order, so that equal recipes have equal texts.
  Json rules = Json::array();
  for (const RecipeRule& rule : recipe.rules) {
    Json json;
    if (rule.block_size) json["block_size"] = *rule.block_size;
    if (rule.double_quant) json["double_quant"] = *rule.double_quant;
    if (rule.encoder) json["encoder"] = Q4EncoderName(*rule.encoder);
    if (rule.keep) json["keep"] = *rule.keep;
    json["match"] = rule.match.text();
    if (rule.scheme) json["type"] = Q4SchemeName(*rule.scheme);
    rules.push_back(std::move(json));
  }
  return Json{{"rules", std::move(rules)}}.dump();
}

}  // namespace q4
