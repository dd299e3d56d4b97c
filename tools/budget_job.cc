#include "tools/budget_job.h"

#include <string>
#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_file.h"
#include "libconvert/base/machine.h"
#include "libconvert/budget/budget.h"
#include "libconvert/policy/policy.h"
#include "tools/report_files.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

bool UsesEncoder(const ConversionPlan& plan, Q4Encoder encoder) {
  for (const PlannedShard& shard : plan.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      if (tensor.encoder == encoder) return true;
    }
  }
  return false;
}

}  // namespace

BudgetRequest RequestOf(const ConvertFlags& flags) {
  return {flags.target_bpw, flags.target_nmse, flags.keep_most_sensitive.value_or(0), flags.fused_alike,
          flags.json || !flags.report.empty()};
}

MeasureRun MeasureRunOf(const ConvertFlags& flags, const ProgressCallback& progress, const BoundOf& bound_of,
                        CancelFlag* cancel) {
  const RunLimits limits = LimitsOfRun(flags.threads, flags.max_memory);
  MeasureRun run;
  run.threads = limits.threads;
  run.max_memory = limits.max_memory;
  run.bound_of = bound_of;
  run.progress = progress;
  run.cancel = cancel;
  return run;
}

std::string NoteOfChoice(const ConversionPlan& plan) {
  if (!UsesEncoder(plan, Q4Encoder::kFeedback)) return {};
  return "chosen by the errors that weighted makes: those of feedback are known when its codes are, and its plain "
         "errors are larger";
}

bool ChoosesByBudget(const ConvertFlags& flags) { return RequestOf(flags).asked(); }

absl::Status CheckBudgetFlags(const ConvertFlags& flags) {
  if (ChoosesByBudget(flags)) return absl::OkStatus();
  if (flags.fused_alike) return Fail(kBudgetUnused, {}, "--fused-alike");
  if (!flags.write_recipe.empty()) return Fail(kBudgetUnused, {}, "--write-recipe");
  return absl::OkStatus();
}

absl::Status CheckRecipeFile(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                             const ConversionPlan& plan) {
  const std::string& path = flags.write_recipe;
  if (path.empty()) return absl::OkStatus();
  ReportRules rules(fs);
  rules.AddSource(checkpoint);
  rules.AddInput(flags.recipe);
  rules.AddInput(flags.gate);
  for (std::string& name : OutputNames(plan, flags.output)) rules.AddOutput(std::move(name));
  if (!flags.report.empty()) rules.AddOutput(flags.report);
  Q4_RETURN_IF_ERROR(rules.CheckPlace(path));
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.exists && info.is_regular && info.size != 0) {
    const absl::StatusOr<std::string> text = ReadWholeFile(fs, path, limits::kConfigJsonBytes);
    if (!flags.force || !text.ok() || !ParseRecordedRecipe(*text, path).ok()) return Fail(kRecipeExists, path, {});
  }
  return TryReport(fs, path);
}

absl::StatusOr<ConversionPlan> PlanByBudget(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                            const ConvertFlags& flags, const ProgressCallback& progress,
                                            const BoundOf& bound_of, CancelFlag* cancel, ConvertOptions* options) {
  const ConvertOptions asked = *options;
  Q4_ASSIGN_OR_RETURN(BudgetChoice choice, ChooseByBudget({{&checkpoint, &configs, &asked, {}}}, RequestOf(flags),
                                                          MeasureRunOf(flags, progress, bound_of, cancel)));
  options->policy.recipe = std::move(choice.recipes.front());
  Q4_ASSIGN_OR_RETURN(ConversionPlan plan, PlanConversion(checkpoint, configs, *options));
  if (std::string note = NoteOfChoice(plan); !note.empty()) plan.notes.push_back({false, std::move(note)});
  plan.choice_text = std::move(choice.text);
  plan.choice_table = std::move(choice.table);
  plan.choice = std::move(choice.json);
  return plan;
}

ProgressCallback MeasureProgress::Measuring() const {
  if (!whole_) return {};
  return [whole = whole_, behind = bytes_behind_, measured = measured_](Progress progress) {
    *measured = progress.total_bytes;
    progress.total_bytes += behind;
    whole(progress);
  };
}

ProgressCallback MeasureProgress::Converting() const {
  if (!whole_) return {};
  return [whole = whole_, measured = measured_](Progress progress) {
    progress.done_bytes += *measured;
    progress.total_bytes += *measured;
    whole(progress);
  };
}

absl::Status GiveRecipe(FileSystem& fs, const ConvertFlags& flags, const ConvertOptions& options) {
  if (flags.write_recipe.empty()) return absl::OkStatus();
  // For people to read and change; a container has the same rules in one line.
  Q4_ASSIGN_OR_RETURN(const Json recipe, ParseJson(RecipeText(*options.policy.recipe), flags.write_recipe, 8));
  return WriteFileAtomically(fs, flags.write_recipe, recipe.dump(2) + "\n", /*replace=*/true);
}

}  // namespace q4
