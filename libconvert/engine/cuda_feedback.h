// The encoder feedback on a GPU (docs/numerics.md Q17): what libconvert/encode/feedback.h does on the cores, with the
// same arguments and to the same bytes. Internal to the engine.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/engine/cuda_station.h"

namespace q4 {

// As ChooseFeedbackCodes(). The tensor's elements, codes and scales, one Hessian, its factor and tiles of rows are on
// the device at the same time; where tiles do not all fit, as many as do. Waits until the slabs of other tensors have
// left room. Errors also: kDeviceMemory where the device has too little for one tile, and kDeviceFailed.
absl::StatusOr<FeedbackResult> ChooseFeedbackCodesOn(Device& device, const FeedbackRun& run, const Q4Tensor& tensor,
                                                     const WeightInput& calibrated, const std::uint8_t* x,
                                                     const float* decoded, std::uint8_t* codes);

// Bytes of host memory that it takes beside what it is given: the Hessian on its way to the device.
std::uint64_t FeedbackMemoryBeside(const WeightInput& calibrated);

}  // namespace q4
