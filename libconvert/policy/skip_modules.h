// The question opposite to the policy's, for exporters: which modules must a loader leave alone.
#pragma once

#include <string>
#include <vector>

#include "formats/source/source_tensor.h"

namespace q4 {

// The modules that a loader must not replace by 4-bit layers, for llm_int8_skip_modules (bnb_checkpoint.md B4.4 and
// B6): the full name, without ".weight", of every kept matrix, and the output heads that the checkpoint has no
// tensor for because they are tied: "lm_head" and, with `config_json` given, the model's own. `quantized[i]` says
// whether tensors[i] was quantized. Bytewise sorted, without duplicates. A config.json that is not JSON counts as
// none.
//
// Loaders take an entry for a regular expression and for a plain suffix. An entry that would thereby catch a
// quantized module as well is written as "^name$", which matches nothing but itself.
std::vector<std::string> ModulesToSkip(const std::vector<SourceTensor>& tensors, const std::vector<bool>& quantized,
                                       const std::string& config_json = "");

}  // namespace q4
