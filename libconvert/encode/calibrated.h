// What a calibration file says of one tensor, as encoders take it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "formats/calibration/calibration.h"
#include "formats/tensor/tensor.h"
#include "libconvert/scheme/column_weights.h"

namespace q4 {

// What keeps an input from being that of a tensor of this shape, in words: "got ..., expected ..."; "" if nothing does.
// REQUIRES, here and below: calibrated.input is set.
std::string CalibrationMisfit(const WeightInput& calibrated, const Shape& shape);

// Reads the moments and makes the weights of the tensor's elements. Errors: those of reading. REQUIRES: it fits.
absl::StatusOr<std::shared_ptr<const ColumnWeights>> LoadColumnWeights(const Calibration& calibration,
                                                                       const WeightInput& calibrated,
                                                                       const Shape& shape);

// What LoadColumnWeights() holds at its worst moment, in bytes, of a tensor of this shape. More than is kept.
std::uint64_t ColumnWeightsMemory(const Shape& shape);

}  // namespace q4
