// A choice as rules of a recipe (policy/recipe.h): whole names, so that no rule reaches a tensor that nobody chose for.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/checkpoint.h"
#include "libconvert/policy/policy.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

// One tensor that was chosen for. `settings.scheme` is kRaw where it is kept.
struct ChosenTensor {
  std::uint32_t source = 0;  // index into Checkpoint::tensors()
  QuantSettings settings;
};

// `recipe` with rules for `chosen` behind its own: a few for each kind of settings, in the order in which those come.
absl::StatusOr<Recipe> RecipeFor(const Checkpoint& checkpoint, const std::vector<ChosenTensor>& chosen, Recipe recipe);

}  // namespace q4
