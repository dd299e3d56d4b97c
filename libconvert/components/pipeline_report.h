// What the tools say of a pipeline as a whole: text for people, JSON by docs/schema. Each component has the document
// that it would have by itself. Pure.
#pragma once

#include <string>

#include "libconvert/base/bound_of.h"
#include "libconvert/components/convert_pipeline.h"

namespace q4 {

// --dry-run. `options` and `threads`: as PlanText() takes them.
std::string PipelinePlanText(const PipelineSource& source, const PipelinePlan& plan, const ConvertOptions& options,
                             unsigned threads, bool all, const BoundOf& bound_of = {});
std::string PipelinePlanJson(const PipelineSource& source, const PipelinePlan& plan, const ConvertOptions& options,
                             unsigned threads, const BoundOf& bound_of = {});

// After a conversion whose gates hold.
std::string PipelineReportText(const PipelineReport& report, double seconds);
std::string PipelineReportJson(const PipelineReport& report, double seconds);

}  // namespace q4
