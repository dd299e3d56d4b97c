// The engine over CUDA devices: slabs are copied in, worked on and copied out on one stream for each busy worker
// thread, so that copies in both directions and kernels of several slabs overlap. A slab goes to the device with the
// most free memory and stays there. A build without CUDA has the same function, which always fails
// (cuda_slab_engine_none.cc); callers go through device.h.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

// Starts the devices, which are CUDA ordinals without repetition; with an empty list, all that the machine has. Each of
// those named must work; of all, those that do not are left out, and one must work. Uses up to four fifths of the
// memory that is free on each at this moment. `effort`: of encoders that search.
//
// Errors: kNoCuda, kNoDevice, kDeviceFailed with CUDA's text, and kDeviceMemory where less than
// 320 MiB are free (device_issues.h).
absl::StatusOr<std::unique_ptr<SlabEngine>> MakeCudaSlabEngine(const std::vector<int>& devices,
                                                               int effort = kDefaultEffort);

}  // namespace q4
