// What q4convert says about a plan and about a conversion: text for people, JSON by docs/schema. Pure functions that
// return whole documents; the tool prints them. JSON documents call a shard "part" (docs/glossary.md).
#pragma once

#include <string>

#include "libconvert/base/bound_of.h"
#include "libconvert/convert/convert.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// --dry-run: how many tensors are treated how, why others are kept, exact output bytes, least memory on `threads`
// threads of this machine's cores (memory_needs.h), and what would make the output smaller. `all`: a line for every
// tensor and file before it. `output`: the name that a run would write, "" for one of several plans. `plan` and
// `options` belong together, and to `checkpoint`. Memory is told as `bound_of` says.
std::string PlanText(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads, bool all, const std::string& output, const BoundOf& bound_of = {});
// All of it as JSON, every tensor with its treatment and reason, without embedded files; "least_memory_bytes" is the
// least memory.
std::string PlanJson(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads, const std::string& output, const BoundOf& bound_of = {});

// After a conversion: error, sizes and seals; in JSON every tensor with its statistics too, options, source files and
// what every limit said. `seconds` is wall time and appears here only, never in the container.
std::string ConvertReportText(const ConvertReport& report, double seconds);
// Also of a conversion that broke a gate: "passed" is false then, and there are no outputs.
std::string ConvertReportJson(const ConvertReport& report, double seconds);

}  // namespace q4
