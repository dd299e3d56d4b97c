// The policy for names of llama.cpp: which tensors of its architectures are quantized, and why the others are not.
#include "libconvert/policy/gguf.h"

#include <string>
#include <vector>

#include "libconvert/policy/loadable.h"
#include "libconvert/policy/policy.h"
#include "libconvert/policy/rules.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

struct NamedTensor {
  const char* name;
  Shape shape;
  std::string_view reason;
};

SourceTensor TensorOf(const NamedTensor& row) {
  SourceTensor tensor;
  tensor.name = row.name;
  tensor.dtype = DType::kF16;
  tensor.shape = row.shape;
  static_cast<void>(CountElements(tensor.shape, &tensor.elems));
  return tensor;
}

const std::vector<NamedTensor> kTensors = {
    {"blk.0.attn_q.weight", {8, 8}, kLinear},
    {"blk.31.ffn_down.weight", {8, 16}, kLinear},
    {"enc.blk.0.attn_o.weight", {8, 8}, kLinear},
    {"blk.0.ssm_in.weight", {16, 8}, kLinear},
    {"blk.0.shortconv.in_proj.weight", {24, 8}, kLinear},
    {"blk.0.time_mix_value.weight", {8, 8}, kLinear},
    {"blk.0.ffn_gate_shexp.weight", {8, 8}, kLinear},
    {"v.blk.0.ffn_up.weight", {8, 8}, kLinear},
    {"mm.0.weight", {8, 8}, kLinear},
    {"blk.0.attn_k_b.weight", {2, 4, 8}, kLinear},
    {"blk.0.attn_v_b.weight", {2, 8, 4}, kLinear},
    {"blk.0.ffn_gate_exps.weight", {4, 8, 8}, kExpertWeight},
    {"blk.0.ffn_gate_up_exps.weight", {4, 16, 8}, kExpertWeight},
    {"blk.0.ffn_up_chexps.weight", {4, 8, 8}, kExpertWeight},
    {"blk.0.ffn_gate.3.weight", {8, 8}, kExpertWeight},
    {"token_embd.weight", {32, 8}, kEmbedding},
    {"per_layer_token_embd.weight", {32, 8}, kEmbedding},
    {"position_embd.weight", {32, 8}, kEmbedding},
    {"token_types.weight", {2, 8}, kEmbedding},
    {"enc.blk.0.attn_rel_b.weight", {32, 4}, kEmbedding},
    {"blk.61.nextn.embed_tokens.weight", {32, 8}, kEmbedding},
    {"output.weight", {32, 8}, kOutputHead},
    {"cls.output.weight", {2, 8}, kOutputHead},
    {"blk.61.nextn.shared_head_head.weight", {32, 8}, kOutputHead},
    {"output_norm.weight", {8}, "norm"},
    {"blk.0.attn_q_norm.weight", {4, 8}, "norm"},
    {"blk.0.ffn_norm_exps.weight", {8}, "norm"},
    {"blk.0.ffn_gate_inp.weight", {4, 8}, kRouter},
    {"blk.0.ffn_gate_inp_shexp.weight", {8}, kRouter},
    {"blk.0.ssm_conv1d.weight", {8, 4}, kParameter},
    {"blk.0.shortconv.conv.weight", {8, 3}, kParameter},
    {"a.conv1d.0.weight", {8, 8, 3}, kParameter},
    {"blk.0.time_mix_w1.weight", {8, 8}, "small weight that llama.cpp does not quantize"},
    {"blk.0.time_mix_lerp_fused.weight", {5, 8}, "small weight that llama.cpp does not quantize"},
    {"blk.0.laurel_l.weight", {4, 8}, "small weight that llama.cpp does not quantize"},
    {"dense_2.weight", {8, 8}, kOutsideModel},
    {"blk.0.attn_q.bias", {8}, "not a layer's weight"},
    {"blk.0.ffn_gate_exps.bias", {4, 8}, "not a layer's weight"},
    {"blk.0.ssm_a", {8, 4}, "not a layer's weight"},
    {"rope_freqs.weight", {8}, "not a 2-D weight"},
    {"v.patch_embd.weight", {8, 3, 2, 2}, kEmbedding},
    {"blk.0.attn_sinks.weight", {8}, "not a 2-D weight"},
    {"blk.0.down_exps.weight", {8}, "not a 2-D weight"},
};

TEST_CASE("names of llama.cpp are decided by a policy of their own") {
  std::vector<SourceTensor> tensors;
  for (const NamedTensor& row : kTensors) tensors.push_back(TensorOf(row));
  ModelConfigs configs;
  for (const char* format : {"gguf", "gguf-sharded"}) {
    configs.format = format;
    // Whatever a config.json beside it says of modules.
    for (const char* config : {"", R"({"model_type": "gpt2"})"}) {
      configs.root = config;
      const auto decisions = test::Must(DecideTensors(tensors, configs, {}));
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        INFO(tensors[i].name);
        CHECK(decisions[i].reason == kTensors[i].reason);
        CHECK(decisions[i].quantize == (kTensors[i].reason == kLinear || kTensors[i].reason == kExpertWeight));
        bool known = false;
        static_cast<void>(IsLinearReason(decisions[i].reason, &known));
        CHECK((known || kTensors[i].reason == kOutsideModel));
      }
    }
  }
  // The same names in a safetensors file are a model's that nobody knows: what is two-dimensional is a linear layer.
  configs.format = "safetensors";
  configs.root.clear();
  const auto plain = test::Must(DecideTensors({TensorOf({"blk.0.ssm_conv1d.weight", {8, 4}, ""})}, configs, {}));
  CHECK(plain[0].quantize);
}

}  // namespace
}  // namespace q4
