// llama.cpp's own quantizer goes by the same names. What it leaves alone is left alone here; embeddings and output
// heads, which it quantizes, are kept besides, as in every other checkpoint. Names are those of gguf-py's constants.py.
#include "libconvert/policy/gguf.h"

#include "libconvert/policy/module_names.h"
#include "libconvert/policy/rules.h"

namespace q4 {
namespace {

constexpr std::string_view kSmallToLlamaCpp = "small weight that llama.cpp does not quantize";

// In the order in which they are asked. `models` is not looked at.
constexpr PolicyRule kGgufRules[] = {
    {"", "*norm *norm_exps *norm.# *enorm *hnorm norm_embd norm_conv", false, "norm"},
    {"", "*_embd embed_tokens token_types attn_rel_b", false, kEmbedding},
    {"", "^output ^cls ^cls.output shared_head_head", false, kOutputHead},
    {"", "ffn_gate_inp ffn_gate_inp_shexp altup_router", false, kRouter},
    {"", "*conv* *conv*.#", false, kParameter},
    {"",
     "altup_* laurel_* ^per_layer_model_proj time_mix_first time_mix_decay time_mix_decay_w1 time_mix_decay_w2 "
     "time_mix_w0 time_mix_w1 time_mix_w2 time_mix_a0 time_mix_a1 time_mix_a2 time_mix_v0 time_mix_v1 time_mix_v2 "
     "time_mix_g1 time_mix_g2 time_mix_lerp_* time_mix_k_k time_mix_k_a time_mix_r_k",
     false, kSmallToLlamaCpp},
    {"", "^dense_2 ^dense_3", false, kOutsideModel},
    // All experts of a layer in one tensor, or in older files a matrix for each.
    {"", "*_exps *_chexps ffn_gate.# ffn_down.# ffn_up.#", true, kExpertWeight},
};
// A linear layer that is stored in a matrix for each head (multi-head latent attention).
constexpr std::string_view kMatrixOfEachHead = "attn_k_b attn_v_b";

DefaultVerdict DecideGguf(const SourceTensor& tensor) {
  const std::string_view module = ModuleOf(tensor.name);
  if (module.size() == tensor.name.size()) return {false, "not a layer's weight"};
  for (const PolicyRule& rule : kGgufRules) {
    // A vector of an expert or of a layer is no matrix, whatever it is called.
    if (MatchesModule(rule.modules, module) && !(rule.quantize && tensor.shape.size() < 2)) {
      return {rule.quantize, rule.reason};
    }
  }
  const bool matrices = tensor.shape.size() == 3 && MatchesModule(kMatrixOfEachHead, module);
  if (tensor.shape.size() != 2 && !matrices) return {false, "not a 2-D weight"};
  return {true, kLinear};
}

}  // namespace

std::vector<DefaultVerdict> GgufVerdicts(const std::vector<SourceTensor>& tensors) {
  std::vector<DefaultVerdict> verdicts;
  verdicts.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) verdicts.push_back(DecideGguf(tensor));
  return verdicts;
}

}  // namespace q4
