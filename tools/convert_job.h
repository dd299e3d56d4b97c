// The job of q4convert: a checkpoint becomes a container, or a container another one (repack.h).
#pragma once

#include "absl/status/statusor.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// Everything that q4convert does with parsed flags: device, gates and report included. `flags.progress` is the
// caller's, who gives `hooks`.
absl::StatusOr<ToolResult> ConvertJob(const ConvertFlags& flags, const JobHooks& hooks);

}  // namespace q4
