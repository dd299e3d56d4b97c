// q4convert of a .q4 container, which is packed anew and never quantized again. See docs/q4convert.md.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "formats/q4/chunk.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// The job of the tool where INPUT is a container. `compression`: that of --compress; nullopt where it was not given.
// kNotRequantized and kNotOfRepack (exit code 1) for options that were given and say nothing about packing.
absl::StatusOr<ToolResult> RepackContainer(const ConvertFlags& flags, const std::optional<Q4Compression>& compression,
                                           const JobHooks& hooks);

// Options for containers alone, where INPUT is none: kOfRepackOnly (exit code 1).
absl::Status CheckNoRepackFlags(const ConvertFlags& flags);

}  // namespace q4
