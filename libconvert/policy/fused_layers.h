// Layers that vLLM computes as one, although checkpoints store them apart: q, k and v; gate and up. What is joined
// there must be quantized together or not at all.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// One place in a model where layers are joined.
struct FusedLayer {
  std::string parent;                             // the module that holds the parts: "model.layers.0.self_attn"
  std::string_view name;                          // what the joined layer is called there: "qkv_proj"
  std::vector<std::string_view> kept, quantized;  // the parts that the model has: "q_proj", ...
};

// All places with at least two parts, in the order of their parents. `modules` are full names; quantized[i] belongs to
// modules[i].
std::vector<FusedLayer> FusedLayers(const std::vector<std::string>& modules, const std::vector<bool>& quantized);

// A line for people if some of them are quantized in part, else "": "vLLM joins these layers ...".
std::string FusedLayersWarning(const std::vector<FusedLayer>& layers);

}  // namespace q4
