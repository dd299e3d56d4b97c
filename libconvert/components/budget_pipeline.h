// A choice of types and block sizes by a budget for a whole pipeline: one account over the weights of all components,
// so that a bit goes where it buys most, in whichever of them that is.
#pragma once

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/budget/budget.h"
#include "libconvert/components/convert_pipeline.h"

namespace q4 {

// PlanPipeline() with what is chosen. `settings` gets the recipes. Errors: those of PlanPipeline() and
// ChooseByBudget(). REQUIRES: request.asked().
absl::StatusOr<PipelinePlan> PlanPipelineByBudget(FileSystem& fs, const PipelineSource& source,
                                                  const ConvertOptions& options, const BudgetRequest& request,
                                                  const MeasureRun& run, ComponentSettings* settings);

}  // namespace q4
