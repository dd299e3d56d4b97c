#include "libconvert/components/budget_pipeline.h"

#include <utility>

#include "formats/base/status.h"

namespace q4 {

absl::StatusOr<PipelineSources> SourcesOf(FileSystem& fs, const PipelineSource& source, const ConvertOptions& options,
                                          const ComponentSettings& settings) {
  Q4_RETURN_IF_ERROR(CheckPipelinePatterns(source, options));
  ConvertOptions each = options;
  each.policy.allow_unmatched = true;
  PipelineSources found;
  for (const PipelineComponent& component : source.components) {
    if (!component.quantized) continue;
    Q4_ASSIGN_OR_RETURN(found.configs.emplace_back(), component.checkpoint->Configs(fs));
    found.options.push_back(OptionsOf(component.name, each, settings, &found.notes));
    found.sources.push_back({component.checkpoint.get(), &found.configs.back(), &found.options.back(), component.name});
  }
  return found;
}

absl::StatusOr<PipelinePlan> PlanPipelineByBudget(FileSystem& fs, const PipelineSource& source,
                                                  const ConvertOptions& options, const BudgetRequest& request,
                                                  const MeasureRun& run, ComponentSettings* settings) {
  // What is refused of the options is refused before anything is measured.
  Q4_RETURN_IF_ERROR(PlanPipeline(fs, source, options, *settings).status());
  Q4_ASSIGN_OR_RETURN(const PipelineSources found, SourcesOf(fs, source, options, *settings));
  Q4_ASSIGN_OR_RETURN(BudgetChoice choice, ChooseByBudget(found.sources, request, run));
  for (std::size_t i = 0; i < found.sources.size(); ++i) {
    settings->recipes[found.sources[i].component] = std::move(choice.recipes[i]);
  }
  Q4_ASSIGN_OR_RETURN(PipelinePlan plan, PlanPipeline(fs, source, options, *settings));
  plan.choice_text = std::move(choice.text);
  plan.choice_table = std::move(choice.table);
  plan.choice = std::move(choice.json);
  return plan;
}

}  // namespace q4
