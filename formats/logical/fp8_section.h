// What a checkpoint's configuration says of weights that are stored as 8-bit floats.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/json_value.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// Rows and columns of the blocks that have a scale each.
using BlockSize = std::pair<std::uint64_t, std::uint64_t>;

struct Fp8Section {
  bool claimed = false;           // the configuration says that weights are quantized, by a method of 8-bit floats
  DType dtype = DType::kBF16;     // of the weights as they are read: F32, F16 or BF16
  bool rounds_to_scale = false;   // products are rounded to the type of the scales first, as compressed-tensors does
  std::vector<BlockSize> blocks;  // that the configuration names, each once
};

// The type of a model's weights by its config.json: "dtype" or "torch_dtype", at the top or else of the text model;
// bfloat16 where it says none of float32, float16 and bfloat16.
DType ModelDType(const Json& config);

// Whether a quantization_config names rotations that its loader undoes at run time: the weights are not those of the
// model then.
bool HasRotations(const Json& section);

// Adds what a quantization_config says. `place`: of it in `file`, for errors: kFp8BlockSize; kFp8Form for weights that
// were rotated before they were quantized.
absl::Status ReadFp8Section(const Json& section, std::string_view file, std::string_view place, Fp8Section* out);

}  // namespace q4
