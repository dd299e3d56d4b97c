// The question opposite to the policy's, for exporters: which modules must a loader leave alone.
#pragma once

#include <string>
#include <vector>

#include "formats/tensor/source_tensor.h"

namespace q4 {

struct SkipList {
  // For llm_int8_skip_modules: bytewise sorted, without duplicates.
  std::vector<std::string> entries;
  // Kept modules that not every loader will recognize by these entries, or by which some loader will spare a quantized
  // module too: their names in memory, sorted. Nearly always empty.
  std::vector<std::string> uncertain;
};

// The modules that a loader must not replace by 4-bit layers (bnb_checkpoint.md B4.4 and B6): every kept matrix, and
// the output heads that the checkpoint has no tensor for because they are tied: "lm_head" and, with `config_json`
// given, the model's own. `quantized[i]` says whether tensors[i] was quantized. A config.json that is not JSON counts
// as none.
//
// Entries are full dotted names, because loaders match differently: transformers 5 takes an entry for a regular
// expression that matches a name's beginning up to a dot, and for a suffix; transformers 4 and diffusers want the whole
// name or "entry." somewhere in it; vLLM the whole name, a beginning up to a dot, or, for an entry without dots, any
// part. A module is listed by the name that it has in memory (module_names.h); by that in the model without a head,
// which AutoModel makes of the same files; and by that on disk, which older versions and vLLM still use.
//
// An entry is left out if some loader would take it for a quantized module as well. If that is the name in memory, it
// is written as "^name$", which transformers 5 alone understands, unless only others would.
SkipList ModulesToSkip(const std::vector<SourceTensor>& tensors, const std::vector<bool>& quantized,
                       const std::string& config_json = "");

}  // namespace q4
