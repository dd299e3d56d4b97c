// Recipes. The canonical text of an accepted one gives the same rules again.
#include "libconvert/policy/recipe.h"
#include "tests/fuzz/fuzz_target.h"

Q4_FUZZ_TARGET(recipe) {
  using namespace q4;
  const auto recipe = ParseRecipe(fuzz::TextOf(data, size), "recipe.json");
  if (!recipe.ok()) {
    fuzz::CheckError(recipe.status());
    return 0;
  }
  const std::string text = RecipeText(*recipe);
  const auto again = ParseRecipe(text, "recipe.json");
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(again->rules.size() == recipe->rules.size());
  Q4_FUZZ_CHECK(RecipeText(*again) == text);
  return 0;
}
