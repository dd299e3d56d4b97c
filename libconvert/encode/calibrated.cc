#include "libconvert/encode/calibrated.h"

#include <algorithm>
#include <vector>

#include "fmt/format.h"
#include "formats/base/status.h"

namespace q4 {

std::string CalibrationMisfit(const WeightInput& calibrated, const Shape& shape) {
  const InputStatistics& input = *calibrated.input;
  const std::size_t dimensions = input.stacked ? 3 : 2;
  const std::string expected = input.stacked ? fmt::format("{} experts of {} inputs", input.matrices, input.columns)
                                             : fmt::format("a matrix of {} inputs", input.columns);
  const std::string got = fmt::format("{}{}", ShapeString(shape), calibrated.transposed ? ", stored transposed" : "");
  if (shape.size() != dimensions) return GotExpected(got, expected);
  const std::uint64_t columns = calibrated.transposed ? shape[dimensions - 2] : shape[dimensions - 1];
  const bool fits = columns == input.columns && (!input.stacked || shape[0] == input.matrices);
  return fits ? std::string() : GotExpected(got, expected);
}

absl::StatusOr<std::shared_ptr<const ColumnWeights>> LoadColumnWeights(const Calibration& calibration,
                                                                       const WeightInput& calibrated,
                                                                       const Shape& shape) {
  std::vector<float> moments(calibrated.input->matrices * calibrated.input->columns);
  Q4_RETURN_IF_ERROR(calibration.ReadMoments(*calibrated.input, moments));
  return std::make_shared<const ColumnWeights>(moments, shape, calibrated.transposed);
}

std::uint64_t ColumnWeightsMemory(const Shape& shape) {
  if (shape.size() < 2) return 0;
  const std::uint64_t matrices = shape.size() == 3 ? shape[0] : 1;
  return 2 * sizeof(float) * matrices * std::max(shape[shape.size() - 2], shape.back());
}

}  // namespace q4
