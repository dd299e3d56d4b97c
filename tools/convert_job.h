// The job of q4convert: a checkpoint becomes a container, or a container another one (repack.h).
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "libconvert/engine/device.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// OpenDevices(), unless an encoder of the plan is one that GPUs do not run: `encoder` is its name, else "". Then the
// cores do the work, and a note says so to who has asked for a GPU.
absl::StatusOr<ChosenEngine> OpenDevicesFor(std::string_view encoder, const DeviceChoice& device, int effort);

// Everything that q4convert does with parsed flags: device, gates and report included. `flags.progress` is the
// caller's, who gives `hooks`.
absl::StatusOr<ToolResult> ConvertJob(const ConvertFlags& flags, const JobHooks& hooks);

}  // namespace q4
