// What q4convert says about a plan and about a finished conversion: text for people, JSON by docs/schema.
#pragma once

#include <string>

#include "libconvert/convert/convert.h"
#include "libconvert/convert/plan.h"

namespace q4 {

// --dry-run: every tensor with its treatment and reason, exact output bytes, least memory.
std::string PlanText(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads);
std::string PlanJson(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads);

// After a conversion. `seconds` is wall time and appears here only, never in the container.
std::string ConvertReportText(const ConvertReport& report, double seconds);
std::string ConvertReportJson(const ConvertReport& report, double seconds);

}  // namespace q4
