// q4convert of a .q4 container, which is packed anew and not quantized again (that is --from-quantized). See
// docs/q4convert.md.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "formats/q4/chunk.h"
#include "tools/job.h"
#include "tools/job_files.h"
#include "tools/options.h"

namespace q4 {

// The job of the tool where INPUT is a container. `compression`: that of --compress; nullopt where it was not given.
// kNotRequantized and kNotOfRepack (exit code 1) for options that were given and say nothing about packing.
absl::StatusOr<ToolResult> RepackContainer(JobFiles& files, const ConvertFlags& flags,
                                           const std::optional<Q4Compression>& compression, const JobHooks& hooks);

// Options of packing anew, where INPUT is converted: kOfRepackOnly (exit code 1). `container`: it is one that is
// quantized again.
absl::Status CheckNoRepackFlags(const ConvertFlags& flags, bool container);

}  // namespace q4
