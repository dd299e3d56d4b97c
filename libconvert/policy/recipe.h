// A recipe: a JSON file with ordered rules that change what is quantized, and how, by tensor name.
//
//   {"rules": [{"match": "\\.mlp\\.", "type": "fp4", "block_size": 128},
//              {"match": "layers\\.0\\.", "keep": true}]}
//
// docs/schema/recipe.schema.json is the schema, docs/policy.md the manual.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

// One rule. What a rule leaves out stays as the rules before it, or the defaults, have it.
struct RecipeRule {
  // Over tensor names; always there.
  NamePattern match;
  std::optional<Q4Scheme> scheme;           // "type": "nf4", "fp4"
  std::optional<std::uint32_t> block_size;  // 32, 64, ... 4096
  std::optional<bool> double_quant;
  std::optional<Q4Encoder> encoder;  // "absmax", "mse"
  std::optional<bool> keep;          // true: do not quantize; false: quantize, whatever the default says
  bool chosen = false;               // for a budget: nobody wrote it, so that people know no number of it
};

// Rules are applied in order, field by field: for each field the last rule that matches and has it wins. Each rule has
// at least one field besides `match`. A recipe without rules is allowed and changes nothing.
struct Recipe {
  std::vector<RecipeRule> rules;
};

// Parses a recipe. `file` is named in errors: not JSON, an unknown key, a wrong type or value, a rule without any
// effect (exit code 3); a regular expression that does not compile (1, as on the command line); an encoder that is not
// built (5).
absl::StatusOr<Recipe> ParseRecipe(std::string_view json, const std::string& file);

// The same of a recipe that a container records. Encoders that this version cannot run are named there, too: whoever
// reads the recipe asks what was done, and does it not.
absl::StatusOr<Recipe> ParseRecordedRecipe(std::string_view json, const std::string& place);

// The recipe as canonical JSON: what the provenance records. Parsing it gives the same rules again.
std::string RecipeText(const Recipe& recipe);

}  // namespace q4
