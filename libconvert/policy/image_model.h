// Image models in one file, as their makers and ComfyUI publish them: the diffusion model, the VAE and the text
// encoders under prefixes ("model.diffusion_model.", "first_stage_model.", ...), or the diffusion model alone without
// one. No config.json says what they are; names do. docs/policy.md, "Image models in one file", has the rule in words.
#pragma once

#include <vector>

#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/default.h"

namespace q4 {

// Whether the names are those of such a file: one has the prefix of a diffusion model, or they begin as the blocks of
// Flux, Stable Diffusion 3 or a U-Net of Stable Diffusion do.
bool IsImageModel(const std::vector<SourceTensor>& tensors);

// A verdict for each of `tensors`, in the same order: linear layers of the diffusion model and of the text encoders are
// quantized; VAEs, embedders, convolutions, norms, output layers and what belongs to none of them are kept.
std::vector<DefaultVerdict> ImageModelVerdicts(const std::vector<SourceTensor>& tensors);

}  // namespace q4
