// Types and block sizes by a budget: for each tensor the way to store it with which all together keep within a number
// of bits per weight, or within an error. docs/q4convert.md, "Budgets", is the manual.
//
//   FindCandidates   which tensors count, and what can be chosen for each (candidates.h)
//   MeasureTensors   what each way would lose (measure.h); reads the source once
//   WithinBits, ...  the choice (allocate.h)
//   RecipeFor        the choice as a recipe, which is all that a conversion needs of it (effective_recipe.h)
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"
#include "formats/source/checkpoint.h"
#include "libconvert/budget/measure.h"
#include "libconvert/plan/plan.h"

namespace q4 {

struct BudgetRequest {
  // At most one of them. Bits per weight, scales included, over all tensors that count; or the error of all together
  // (weigh.h).
  std::optional<double> bits_per_weight, nmse;
  // Percent of the weights that count: tensors whose error by weight is largest stay unquantized.
  double keep_most_sensitive = 0;
  bool fused_alike = false;
  bool wants_json = false;  // BudgetChoice::json, some 5 KiB for each tensor

  bool asked() const { return bits_per_weight || nmse || keep_most_sensitive > 0; }
};

// One checkpoint that counts. Owns nothing.
struct BudgetSource {
  const Checkpoint* checkpoint = nullptr;
  const ModelConfigs* configs = nullptr;
  const ConvertOptions* options = nullptr;
  // Of a pipeline: the component's. Then names of tensors have it before them.
  std::string component;
};

struct BudgetChoice {
  // Of each source: the rules of its options' own recipe, and behind them those of the choice. A conversion whose
  // options have this one instead of theirs carries the choice out.
  std::vector<Recipe> recipes;
  std::string text;                  // for people: what was reached, and what it bought
  std::string table;                 // for people: a line for each tensor
  std::shared_ptr<const Json> json;  // all of it (docs/schema/convert.schema.json); nullptr where nobody wants it
};

// One choice for all sources together, as if their tensors were those of one model: a weight counts alike in each.
// REQUIRES: request.asked(), a source at least; all of them have the same options but for recipe, encoder and
// calibration. Errors: kNothingToChoose, kTargetOutOfReach, kNonFinite, unless ConvertOptions says that
// such tensors are kept, and those of DecideTensors() and MeasureTensors(). The same input, options and request give
// the same choice, whatever `run` says.
absl::StatusOr<BudgetChoice> ChooseByBudget(const std::vector<BudgetSource>& sources, const BudgetRequest& request,
                                            const MeasureRun& run);

}  // namespace q4
