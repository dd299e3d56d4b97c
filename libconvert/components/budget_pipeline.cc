#include "libconvert/components/budget_pipeline.h"

#include <deque>
#include <utility>
#include <vector>

#include "libconvert/model/model_configs.h"

namespace q4 {

absl::StatusOr<PipelinePlan> PlanPipelineByBudget(FileSystem& fs, const PipelineSource& source,
                                                  const ConvertOptions& options, const BudgetRequest& request,
                                                  const MeasureRun& run, ComponentSettings* settings) {
  // What is refused of the options is refused before anything is measured.
  Q4_ASSIGN_OR_RETURN(const PipelinePlan before, PlanPipeline(fs, source, options, *settings));
  std::deque<ModelConfigs> configs;  // of addresses that stay
  std::vector<BudgetSource> sources;
  for (const PlannedComponent& planned : before.components) {
    const Checkpoint& checkpoint = *planned.component->checkpoint;
    Q4_ASSIGN_OR_RETURN(configs.emplace_back(), checkpoint.Configs(fs));
    sources.push_back({&checkpoint, &configs.back(), &planned.options, planned.component->name});
  }
  Q4_ASSIGN_OR_RETURN(BudgetChoice choice, ChooseByBudget(sources, request, run));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    settings->recipes[sources[i].component] = std::move(choice.recipes[i]);
  }
  Q4_ASSIGN_OR_RETURN(PipelinePlan plan, PlanPipeline(fs, source, options, *settings));
  plan.choice_text = std::move(choice.text);
  plan.choice_table = std::move(choice.table);
  plan.choice = std::move(choice.json);
  return plan;
}

}  // namespace q4
