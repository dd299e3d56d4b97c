// What q4convert says about a plan and about a finished conversion: text for people, JSON by docs/schema. Pure
// functions that return whole documents; the tool prints them. JSON documents call a shard "part" (docs/glossary.md).
#pragma once

#include <string>

#include "libconvert/convert/convert.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// --dry-run: every tensor with its treatment and reason, exact output bytes, least memory on `threads` threads of this
// machine's cores (memory_needs.h). `plan` and `options` belong together, and to `checkpoint`.
std::string PlanText(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads);
// The same as JSON, without embedded files; "least_memory_bytes" is the least memory.
std::string PlanJson(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads);

// After a conversion whose gates hold: error, sizes and seals; in JSON every tensor with its statistics too. `seconds`
// is wall time and appears here only, never in the container.
std::string ConvertReportText(const ConvertReport& report, double seconds);
std::string ConvertReportJson(const ConvertReport& report, double seconds);

}  // namespace q4
