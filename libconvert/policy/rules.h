// The names behind the default policy: two tables, read from top to bottom, first match wins. They are data, so that a
// reader can hold them against transformers' classes; default.cc says when each is asked.
#pragma once

#include <span>
#include <string_view>

namespace q4 {

// Reasons that others ask for: why output embeddings are kept, why routed experts that transformers fuses are
// quantized, and why what lies in a module folder of another library than transformers is kept.
inline constexpr std::string_view kOutputHead = "output head";
inline constexpr std::string_view kTied = "shared with another module";
inline constexpr std::string_view kExpertWeight = "expert weight";
inline constexpr std::string_view kOutsideModel = "module outside the transformers model";
// Of the tables of both libraries.
inline constexpr std::string_view kEmbedding = "embedding";
inline constexpr std::string_view kFullPrecision = "kept in full precision by the model class";
inline constexpr std::string_view kRouter = "router";
inline constexpr std::string_view kParameter = "parameter that is no layer";
inline constexpr std::string_view kLinear = "linear weight";

// The fields `models` and `modules` are lists of items, separated by single spaces. In an item `*` stands for any
// characters but dots; between dots, "#" stands for a number and "**" (once in an item) for any number of parts.
struct PolicyRule {
  // Model types and architecture class names that the rule is about: it applies when any model_type in config.json,
  // that of a part included (text_config, vision_config, ...), or any entry of "architectures" matches. "": every
  // model.
  std::string_view models;
  // Module names, i.e. tensor names without ".weight". An item matches a whole name or what follows a dot in it;
  // "^item" matches whole names only.
  std::string_view modules;
  // The verdict, and its reason for people (docs/policy.md lists them).
  bool quantize;
  std::string_view reason;
};

// Rules tied to a model, taken before everything else.
std::span<const PolicyRule> ModelRules();

// Rules for every model, about matrices: names that no linear layer to be quantized has.
std::span<const PolicyRule> GeneralRules();

// Whether `name` matches one of the items of `modules`.
bool MatchesModule(std::string_view modules, std::string_view name);

// Whether `name` is, as a whole, matched by one of the items of `list`.
bool MatchesAny(std::string_view list, std::string_view name);

}  // namespace q4
