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

struct BudgetChoice {
  // The rules of the options' own recipe, and behind them those of the choice. A conversion whose options have this one
  // instead of theirs carries the choice out.
  Recipe recipe;
  std::string text;                  // for people: what was reached, and what it bought
  std::string table;                 // for people: a line for each tensor
  std::shared_ptr<const Json> json;  // all of it (docs/schema/convert.schema.json); nullptr where nobody wants it
};

// REQUIRES: request.asked(). Errors: kNothingToChoose, kTargetOutOfReach, kNonFinite, unless ConvertOptions says that
// such tensors are kept, and those of DecideTensors() and MeasureTensors(). The same input, options and request give
// the same choice, whatever `run` says.
absl::StatusOr<BudgetChoice> ChooseByBudget(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                            const ConvertOptions& options, const BudgetRequest& request,
                                            const MeasureRun& run);

}  // namespace q4
