// Components of diffusers pipelines (transformer, unet, vae, controlnet, ...), whose config.json names a class of
// diffusers. Their default policy is what diffusers' bitsandbytes integration puts in 4 bits: every nn.Linear, one of a
// derived class included, outside the modules that the class keeps in full precision. Other rules of this wing are
// about transformers and do not apply: there "x_embedder" is an embedding, here it is a linear layer.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/rules.h"

namespace q4 {

// The class that config.json names, "FluxTransformer2DModel", or "" if it is not that of a component. A text that is
// not JSON counts as none.
std::string DiffusersClassOf(std::string_view config_json);

// Names that are not linear layers, or are kept: of one class, then of all. Taken before shapes are looked at.
std::span<const PolicyRule> DiffusersRules();

// The name under which the present version of diffusers has a module of the checkpoint: attention layers of older VAEs
// are called query, key, value and proj_attn on disk. Other names stay. diffusers renames their weights while it loads
// them, but not the parts of a quantized weight. `module`: without ".weight".
std::string DiffusersModuleName(std::string_view module);
// The same of a module's tensor, its weight or bias.
std::string DiffusersTensorName(std::string_view tensor);

// What llm_int8_skip_modules must hold for a component, so that diffusers leaves the unquantized modules alone: the
// full names of those that it would replace by itself. `defaults[i]`: whether the default policy quantizes tensors[i].
// Bytewise sorted. An entry without a dot also catches modules whose last part is that name, and any catches what lies
// below it; diffusers has no form that does not. Fails with kSkipCatches (exit code 5) if a quantized module is caught.
absl::StatusOr<std::vector<std::string>> DiffusersModulesToSkip(const std::vector<SourceTensor>& tensors,
                                                                const std::vector<bool>& quantized,
                                                                const std::vector<bool>& defaults);

}  // namespace q4
