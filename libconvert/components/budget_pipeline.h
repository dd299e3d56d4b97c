// A choice of types and block sizes by a budget for a whole pipeline: one account over the weights of all components,
// so that a bit goes where it buys most, in whichever of them that is.
#pragma once

#include <deque>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "libconvert/budget/budget.h"
#include "libconvert/components/convert_pipeline.h"
#include "libconvert/model/model_configs.h"

namespace q4 {

// The components that are quantized, each with its own options and configuration.
struct PipelineSources {
  std::vector<BudgetSource> sources;
  std::vector<Note> notes;  // of OptionsOf()
  // What the sources point to.
  std::deque<ModelConfigs> configs;
  std::deque<ConvertOptions> options;
};

// `source` must outlive the result. Errors: those of reading configurations; patterns of the user that match in none of
// the components, unless they may.
absl::StatusOr<PipelineSources> SourcesOf(FileSystem& fs, const PipelineSource& source, const ConvertOptions& options,
                                          const ComponentSettings& settings);

// PlanPipeline() with what is chosen. `settings` gets the recipes. Errors: those of PlanPipeline() and
// ChooseByBudget(). REQUIRES: request.asked().
absl::StatusOr<PipelinePlan> PlanPipelineByBudget(FileSystem& fs, const PipelineSource& source,
                                                  const ConvertOptions& options, const BudgetRequest& request,
                                                  const MeasureRun& run, ComponentSettings* settings);

}  // namespace q4
