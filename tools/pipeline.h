// The tools' jobs where their input is a pipeline of diffusers: docs/pipelines.md. Each takes the folder that
// PipelineFolder() or SealedPipelineFolder() found, and refuses options that are about a single model (kNotOfPipeline).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/engine/device.h"
#include "libconvert/export/export.h"
#include "libconvert/judge/gate.h"
#include "libconvert/plan/plan.h"
#include "libconvert/verify/verify.h"
#include "tools/job.h"
#include "tools/job_files.h"
#include "tools/options.h"

namespace q4 {

// q4convert, with what it has made of the flags. `typed`: the input as it was given, for the command of a comparison.
absl::StatusOr<ToolResult> ConvertPipeline(JobFiles& files, const ConvertFlags& flags, const std::string& folder,
                                           const std::string& typed, const DeviceChoice& device,
                                           const ConvertOptions& options, std::vector<Gate> gates,
                                           const JobHooks& hooks);

// q4verify of a converted pipeline.
absl::StatusOr<ToolResult> VerifyPipelineFolder(FileSystem& fs, const VerifyFlags& flags, const std::string& folder,
                                                const VerifyOptions& options, const JobHooks& hooks);

// q4inspect of a pipeline, converted or not.
absl::StatusOr<ToolResult> InspectPipelineFolder(FileSystem& fs, const InspectFlags& flags, const std::string& folder,
                                                 const OpenOptions& open);

// q4export of a converted pipeline.
absl::StatusOr<ToolResult> ExportPipelineFolder(const ExportFlags& flags, const std::string& folder,
                                                const ExportOptions& options);

}  // namespace q4
