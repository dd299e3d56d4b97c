// The part of q4convert that compares settings (libconvert/budget/compare.h) instead of converting.
#pragma once

#include "absl/status/statusor.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/bound_of.h"
#include "libconvert/engine/device.h"
#include "libconvert/plan/plan.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// Measures, and hands back the table or its JSON; writes nothing. `options`: those that the flags make. Errors of
// CompareSettings(). REQUIRES: flags.compare.
absl::StatusOr<ToolResult> CompareJob(const ConvertFlags& flags, const Checkpoint& checkpoint,
                                      const ModelConfigs& configs, const ConvertOptions& options,
                                      const DeviceChoice& device, const BoundOf& bound_of, const JobHooks& hooks);

}  // namespace q4
