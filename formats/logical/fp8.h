// Weights stored as 8-bit floats with scales beside them, as tensors that are read as plain ones. Goes by names, dtypes
// and shapes of the tensors and by the configuration; no payload is read. Dialects (docs/compatibility.md lists them):
//   X.weight with X.weight_scale_inv    transformers (DeepSeek-V3, Qwen3), one scale for each block
//            or   X.weight_scale        compressed-tensors, ModelOpt, FBGEMM, ComfyUI; of the tensor, a channel, a
//            block or   X.scale_weight        ComfyUI, of the tensor or   X.qscale_weight       Mistral, of the tensor
//            or   X.scale               DeepSeek's own
//   X        with X_scale_inv, X_scale  experts in one tensor
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "formats/folder/left_out.h"
#include "formats/logical/fp8_section.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// Whether a tensor of this type may be codes: E4M3 or E5M2. (E8M0 is a type of scales.)
bool IsFp8(DType dtype);

// What became of a list of tensors.
struct Fp8Result {
  std::uint64_t scaled = 0;    // weights that are read as kScaledF8, with a scale
  std::uint64_t unscaled = 0;  // and without, where the checkpoint has no scales at all: the codes are the values
};

// Replaces each weight and its scale in `tensors` by one tensor of the weight's name, shape and place and of
// `section.dtype`. Scales of activations and caches and marks that only the loader of a dialect needs are taken out,
// and added to `left_out` by name. Order is kept; time and memory by the number of tensors.
//
// Of a shape [..., R, C] a scale has one element; or [..., SR, SC] (or [SR, 1, SC, 1], as ModelOpt writes it) for
// blocks: of the size that the section names if they cover the weight exactly, at its edges in part, else of 128 x 128
// if those do and the section names none, else of R/SR x C/SC if these divide; or [R] of a matrix; or one for each
// matrix of a tensor of three dimensions.
//
// `path_of`: the file that a tensor begins in, for errors: those of logical_issues.h. `tensors` is then unspecified.
absl::Status ReadFp8Tensors(const Fp8Section& section, const std::function<std::string(const SourceTensor&)>& path_of,
                            std::vector<SourceTensor>* tensors, LeftOutList* left_out, Fp8Result* result);

}  // namespace q4
