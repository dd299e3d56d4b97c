// What the tools say of a pipeline as a whole: text for people, JSON by docs/schema. Each component has the document
// that it would have by itself. Pure.
#pragma once

#include <string>

#include "libconvert/base/bound_of.h"
#include "libconvert/components/convert_pipeline.h"

namespace q4 {

// --dry-run. `options`, `threads` and `all`: as PlanText() takes them; `output`: the folder that a run would write.
std::string PipelinePlanText(const PipelineSource& source, const PipelinePlan& plan, const ConvertOptions& options,
                             unsigned threads, bool all, const std::string& output, const BoundOf& bound_of = {});
std::string PipelinePlanJson(const PipelineSource& source, const PipelinePlan& plan, const ConvertOptions& options,
                             unsigned threads, const std::string& output, const BoundOf& bound_of = {});

// After a conversion whose gates hold.
std::string PipelineReportText(const PipelineReport& report, double seconds);
// Also of one that broke a gate: "passed" is false then, there is no output, and no component has one.
std::string PipelineReportJson(const PipelineReport& report, double seconds);

}  // namespace q4
