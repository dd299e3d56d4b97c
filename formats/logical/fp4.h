// Weights stored as 4-bit floats (E2M1) with scales of blocks, as tensors that are read as plain ones. Goes by names,
// dtypes and shapes; no payload is read. Blocks of 16 with scales of E4M3 and one of the tensor are NVFP4, blocks of 32
// with powers of two MXFP4. Dialects (docs/compatibility.md lists them):
//   X.weight_packed with X.weight_scale, X.weight_global_scale (a divisor)   compressed-tensors
//   X.weight        with X.weight_scale, X.weight_scale_2 (a factor)         ModelOpt; Quark, without the latter
//            or          X.scale, X.weight_scale_inv                         DeepSeek-V4
//   X        with X_weight_scale, X_scale and so on                          experts in one tensor, also packed down
//   X_blocks with X_scales, for X = gate_up_proj and down_proj               gpt-oss in transformers, X transposed
//   X.blocks with X.scales                                                   gpt-oss as OpenAI names it
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/json_value.h"
#include "formats/folder/left_out.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// Whether the list may hold such weights: cheap, and true of much else.
bool MayHoldF4(const std::vector<SourceTensor>& tensors);

// How many weights were read, by format.
struct Fp4Result {
  std::uint64_t nvfp4 = 0, mxfp4 = 0;
};

// Replaces each weight and its scales in `tensors` by one kPackedF4 tensor of its codes' place and of type `dtype`
// (that of the model). Scales of activations and caches are taken out and added to `left_out` by name. What is stored
// in another way stays as it is; whoever calls asks about it (FindQuantTensors()). Order is kept; time and memory by
// the number of tensors.
//
// `path_of`: the file that a tensor begins in, for errors: those of logical_issues.h. `tensors` is then unspecified.
absl::Status ReadF4Tensors(DType dtype, const std::function<std::string(const SourceTensor&)>& path_of,
                           std::vector<SourceTensor>* tensors, LeftOutList* left_out, Fp4Result* result);

// What a quantization_config may say that makes these weights others than their codes: kF4Form for rotations that the
// loader undoes. `place`: of it in `file`.
absl::Status CheckF4Section(const Json& section, std::string_view file, std::string_view place);

}  // namespace q4
