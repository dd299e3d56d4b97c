// The job of q4export: flags become ExportOptions, and libconvert/export does the rest, its checks of the output
// included.
#pragma once

#include "absl/status/statusor.h"
#include "libconvert/export/export.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// Everything but progress and cancel. Options that only another exporter looks at are passed on all the same.
ExportOptions ExportOptionsFrom(const ExportFlags& flags);

// Everything that q4export does with parsed flags, of a container or a converted pipeline.
absl::StatusOr<ToolResult> ExportJob(const ExportFlags& flags, const JobHooks& hooks);

}  // namespace q4
