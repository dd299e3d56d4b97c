// Makes calibration files (docs/calibration.md) for tests, right ones and wrong ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/json_value.h"
#include "tests/support/bytes.h"
#include "tests/support/safetensors_builder.h"

namespace q4::test {

// The little-endian bytes of numbers.
template <typename T>
std::string BytesOfAll(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

class CalibrationBuilder {
 public:
  // A weight and the input that it has; as in __metadata__ `weights` or `transposed_weights`.
  CalibrationBuilder& Weight(std::string weight, std::string input, bool transposed = false) {
    (transposed ? transposed_ : weights_)[weight] = input;
    return *this;
  }
  CalibrationBuilder& Tensor(std::string_view name, std::string_view dtype, const std::vector<std::uint64_t>& shape,
                             std::string_view bytes) {
    tensors_.Add(name, dtype, shape, bytes);
    return *this;
  }
  // The moments and tokens of an input, for a weight of its name.
  CalibrationBuilder& Input(const std::string& input, const std::vector<float>& moments, std::int64_t tokens = 100) {
    Tensor(input + ".second_moments", "F32", {moments.size()}, BytesOfAll(moments));
    return Tensor(input + ".count", "I64", {1}, BytesOfAll(std::vector<std::int64_t>{tokens}));
  }
  CalibrationBuilder& Layer(const std::string& weight, const std::vector<float>& moments, bool transposed = false) {
    return Weight(weight, weight, transposed).Input(weight, moments);
  }
  // A member of __metadata__, instead of what it would be.
  CalibrationBuilder& Metadata(std::string key, std::string text) {
    metadata_[key] = text;
    return *this;
  }

  std::string Build() const {
    Json metadata = metadata_;
    if (!metadata.contains("q4_calibration")) metadata["q4_calibration"] = "1";
    if (!metadata.contains("weights")) metadata["weights"] = weights_.dump();
    if (!transposed_.empty()) metadata["transposed_weights"] = transposed_.dump();
    return tensors_.Build("\"__metadata__\":" + metadata.dump());
  }

 private:
  Json weights_ = Json::object(), transposed_ = Json::object(), metadata_ = Json::object();
  SafetensorsBuilder tensors_;
};

}  // namespace q4::test
