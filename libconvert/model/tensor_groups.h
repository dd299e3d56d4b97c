// The layer and the role of a tensor, from its name alone.
//
//   model.layers.7.self_attn.q_proj.weight            layer "model.layers.7"    role "q_proj"
//   encoder.layer.0.attention.output.dense.weight     layer "encoder.layer.0"   role "attention.output.dense"
//   model.layers.3.mlp.experts.12.down_proj.weight    layer "model.layers.3"    role "down_proj"
//   lm_head.weight                                    no layer                  role "lm_head"
//
// The layer is the name up to its first number that is neither its first component nor that of an expert. What follows,
// without the numbers of experts and without a final "weight", is the tensor's path; without a layer the whole name is.
// The role is the shortest tail of the path that no other path of the model ends in, so that roles read as people call
// them and different things never share one: BERT's `attention.output.dense` and `output.dense` stay apart, and where a
// model has `self_attn.q_proj` and `cross_attn.q_proj`, these are the roles.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// Layer and role of one tensor. Reports and gates sum statistics up over the tensors of one layer, or of one role.
struct TensorGroup {
  // "model.layers.7"; "" if the name has no number that counts layers.
  std::string layer;
  // "q_proj": what the tensor is in any layer. "" for a name that ends with its layer.
  std::string role;
};

// Layer and role of each tensor of a model, in the order of `names`. All names are needed at once, since the role
// depends on which other paths there are; names of one model may be given in any order and the result is the same.
// Names are not trusted: cost grows with their total length.
std::vector<TensorGroup> GroupTensors(const std::vector<std::string_view>& names);

// The order of layers in reports. Digits compare as the numbers they are, of any length: "layers.2" before "layers.10".
// All else compares bytewise. A strict weak order; only equal texts are equivalent, as leading zeros decide last.
bool NaturalLess(std::string_view a, std::string_view b);

}  // namespace q4
