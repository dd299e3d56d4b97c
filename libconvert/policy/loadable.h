// Which weights a loader of a bitsandbytes checkpoint can hold in 4 bits: those of linear layers, which it replaces by
// 4-bit ones. Any other 4-bit weight (an embedding, a norm, a convolution, a bare parameter) does not fit its module,
// and from_pretrained() fails on its shape.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/modules.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// Whether the default policy's `reason` is said of a linear layer's weight, quantized or kept. Conv1D is none: a loader
// replaces it, but wants its weight transposed. True of the weights of experts, of which policy/experts.h says more.
// `known`, unless nullptr: whether there is such a reason.
bool IsLinearReason(std::string_view reason, bool* known = nullptr);

// For each tensor, in the same order, "" if it is a linear layer's weight, else what it is: the reason why the default
// policy keeps it. By names, shapes and `configs` alone. "" too for what lies outside of the transformers model: an
// export has its own rule for that. Fails for a config.json that is not JSON (exit code 3).
absl::StatusOr<std::vector<std::string>> WhyNoLinearLayer(const std::vector<SourceTensor>& tensors,
                                                          const ModelConfigs& configs);

}  // namespace q4
