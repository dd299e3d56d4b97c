// The engine over CUDA devices: slabs are copied in, worked on and copied out on one stream for each busy worker
// thread, so that copies in both directions and kernels of several slabs overlap. A slab goes to the device with the
// most free memory and stays there.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

// Starts the devices, which are CUDA ordinals without repetition, or with an empty list all there are. At least one
// must work, and of those named all. Uses up to four fifths of the memory that is free on each. Errors: kNoCuda,
// kNoDevice, kDeviceFailed (device_issues.h), with the text of CUDA.
absl::StatusOr<std::unique_ptr<SlabEngine>> MakeCudaSlabEngine(const std::vector<int>& devices);

}  // namespace q4
