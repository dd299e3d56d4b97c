// The part of q4convert that compares settings (libconvert/budget/compare.h) instead of converting.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/base/bound_of.h"
#include "libconvert/budget/budget.h"
#include "libconvert/engine/device.h"
#include "libconvert/plan/plan.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// Measures, and hands back the table or its JSON; writes nothing. `sources`: one, or the components of a pipeline;
// `options`: those that the flags make. Errors of
// CompareSettings(). REQUIRES: flags.compare.
absl::StatusOr<ToolResult> CompareJob(const ConvertFlags& flags, const std::vector<BudgetSource>& sources,
                                      const ConvertOptions& options, const DeviceChoice& device,
                                      const BoundOf& bound_of, const JobHooks& hooks);

}  // namespace q4
