// The part of q4convert that chooses types and block sizes by a budget (libconvert/budget): from flags to a plan.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/bound_of.h"
#include "libconvert/base/progress.h"
#include "libconvert/budget/budget.h"
#include "libconvert/plan/plan.h"
#include "tools/options.h"

namespace q4 {

// What the flags ask for.
BudgetRequest RequestOf(const ConvertFlags& flags);
// How the work is done.
MeasureRun MeasureRunOf(const ConvertFlags& flags, const ProgressCallback& progress, const BoundOf& bound_of,
                        CancelFlag* cancel);
// What to say of a choice for a plan whose codes are chosen of whole tensors: after what is measured. "" of others.
std::string NoteOfChoice(const ConversionPlan& plan);

// Whether the flags ask for a choice.
bool ChoosesByBudget(const ConvertFlags& flags);

// kBudgetUnused for flags that say how to choose where nothing is chosen (exit code 1).
absl::Status CheckBudgetFlags(const ConvertFlags& flags);

// Whether --write-recipe can be written, before anything is measured: errors of ReportRules::Check() but those about
// what lies there; kRecipeExists for a file, unless it is a recipe and --force is given. `plan`: one of this
// checkpoint.
absl::Status CheckRecipeFile(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                             const ConversionPlan& plan);

// Measures, chooses, and plans with what was chosen: `options` gets the recipe. Errors of ChooseByBudget() and
// PlanConversion(). REQUIRES: ChoosesByBudget().
absl::StatusOr<ConversionPlan> PlanByBudget(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                            const ConvertFlags& flags, const ProgressCallback& progress,
                                            const BoundOf& bound_of, CancelFlag* cancel, ConvertOptions* options);

// One progress for measuring and converting: what is done of the whole never falls back.
class MeasureProgress {
 public:
  // `bytes_behind`: what comes after measuring.
  MeasureProgress(ProgressCallback whole, std::uint64_t bytes_behind)
      : whole_(std::move(whole)), bytes_behind_(bytes_behind), measured_(std::make_shared<std::uint64_t>(0)) {}
  ProgressCallback Measuring() const;
  ProgressCallback Converting() const;

 private:
  const ProgressCallback whole_;
  const std::uint64_t bytes_behind_;
  const std::shared_ptr<std::uint64_t> measured_;  // bytes, all of them
};

// Writes --write-recipe, if it is given: the recipe of `options`. REQUIRES: CheckRecipeFile().
absl::Status GiveRecipe(FileSystem& fs, const ConvertFlags& flags, const ConvertOptions& options);

}  // namespace q4
