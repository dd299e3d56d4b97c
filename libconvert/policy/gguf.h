// What is quantized of a model whose tensors have the names of llama.cpp: "blk.0.attn_q.weight", "token_embd.weight".
// docs/policy.md, "GGUF", has the rule in words.
#pragma once

#include <vector>

#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/default.h"

namespace q4 {

// A verdict for each of `tensors`, in the same order: by names and shapes alone, for GGUF says nothing else of a layer.
std::vector<DefaultVerdict> GgufVerdicts(const std::vector<SourceTensor>& tensors);

}  // namespace q4
