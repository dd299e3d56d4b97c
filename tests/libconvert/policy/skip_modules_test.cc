#include "libconvert/policy/skip_modules.h"

#include <algorithm>
#include <string>
#include <vector>

#include "libconvert/policy/fused_layers.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using Names = std::vector<std::string>;

SkipList Skip(const Names& kept, const Names& quantized, const std::string& config = "") {
  std::vector<SourceTensor> tensors;
  for (const Names& names : {kept, quantized}) {
    for (const std::string& name : names) {
      SourceTensor& tensor = tensors.emplace_back();
      tensor.name = name + ".weight";
      tensor.shape = {8, 8};
      tensor.elems = 64;
    }
  }
  std::vector<bool> flags(kept.size(), false);
  flags.resize(tensors.size(), true);
  return ModulesToSkip(tensors, flags, config);
}

bool Lists(const SkipList& list, const std::string& entry) {
  return std::find(list.entries.begin(), list.entries.end(), entry) != list.entries.end();
}

const std::string kLlama = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})";
const std::string kGemma3 = R"({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"})";

TEST_CASE("a module is listed by its name in memory, without the class's head, and on disk") {
  const SkipList list =
      Skip({"language_model.model.layers.0.mlp.up_proj"},
           {"language_model.model.layers.0.mlp.down_proj", "language_model.model.layers.1.mlp.up_proj"}, kGemma3);
  CHECK(list.entries == Names{"language_model.layers.0.mlp.up_proj", "language_model.model.layers.0.mlp.up_proj",
                              "lm_head", "model.language_model.layers.0.mlp.up_proj"});
  CHECK(list.uncertain.empty());
}

TEST_CASE("the name without a head is left out where it would catch a quantized module") {
  const SkipList list = Skip({"model.layers.0.fc"}, {"model.layers.1.fc", "model.tower.layers.0.fc"}, kLlama);
  CHECK(list.entries == Names{"lm_head", "model.layers.0.fc"});
}

TEST_CASE("a class without a head has no shorter names") {
  const std::string config = R"({"architectures": ["Dinov2Model"], "model_type": "dinov2"})";
  CHECK(Skip({"encoder.layer.0.mlp.fc1"}, {"encoder.layer.1.mlp.fc1"}, config).entries ==
        Names{"encoder.layer.0.mlp.fc1", "lm_head"});
}

TEST_CASE("a name that ends that of a quantized module is anchored, and uncertain") {
  const SkipList list = Skip({"a.proj", "a.out"}, {"b.a.proj"});
  CHECK(list.entries == Names{"^a.proj$", "a.out", "lm_head"});
  CHECK(list.uncertain == Names{"a.proj"});
}

TEST_CASE("a name that only vLLM or diffusers would take for another stays, and is uncertain") {
  // Without a dot it is any part of a name to vLLM; with a dot behind it, any text to diffusers.
  for (const std::string quantized : {"blocks.0.proj.fc", "blocks.0.in_proj.fc"}) {
    const SkipList list = Skip({"proj"}, {quantized});
    CHECK(list.entries == Names{"lm_head", "proj"});
    CHECK(list.uncertain == Names{"proj"});
  }
}

TEST_CASE("kept experts are one entry a layer") {
  const std::string config = R"({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"})";
  const SkipList list = Skip({"model.layers.0.mlp.experts.0.up_proj", "model.layers.0.mlp.experts.1.up_proj"},
                             {"model.layers.0.self_attn.q_proj"}, config);
  CHECK(list.entries == Names{"layers.0.mlp.experts", "lm_head", "model.layers.0.mlp.experts"});
  const SkipList mixed =
      Skip({"model.layers.0.mlp.experts.0.up_proj"}, {"model.layers.0.mlp.experts.1.up_proj"}, config);
  CHECK(mixed.entries == Names{"lm_head"});
  CHECK(mixed.uncertain.empty());
}

TEST_CASE("the heads of a known class are listed, and no others that would do harm") {
  const std::string config = R"({"architectures": ["RobertaForMaskedLM"], "model_type": "roberta"})";
  const SkipList list = Skip({"roberta.embeddings.word_embeddings"}, {"lm_head.dense"}, config);
  CHECK(Lists(list, "lm_head.decoder"));
  CHECK_FALSE(Lists(list, "lm_head"));
  CHECK(list.uncertain.empty());
}

TEST_CASE("a module that other layers share is listed by what all its names end in") {
  const std::string config = R"({"architectures": ["ZambaForCausalLM"], "model_type": "zamba"})";
  CHECK(Lists(Skip({"model.layers.5.shared_transf.feed_forward.up_proj"}, {"model.layers.0.mamba.in_proj"}, config),
              "shared_transf.feed_forward.up_proj"));
}

TEST_CASE("a joined layer of which every part is kept is listed by its joined name too") {
  const SkipList list = Skip({"model.layers.0.attn.q_proj", "model.layers.0.attn.k_proj", "model.layers.0.attn.v_proj"},
                             {"model.layers.0.attn.o_proj", "model.layers.1.attn.q_proj"}, "");
  CHECK(Lists(list, "model.layers.0.attn.qkv_proj"));
  CHECK_FALSE(
      Lists(Skip({"model.layers.0.attn.q_proj"}, {"model.layers.0.attn.k_proj"}), "model.layers.0.attn.qkv_proj"));
}

TEST_CASE("a part of a joined layer that is kept alone is warned about") {
  const auto warning = [](const Names& modules, const std::vector<bool>& quantized) {
    return FusedLayersWarning(FusedLayers(modules, quantized));
  };
  CHECK(
      warning({"l.0.q_proj", "l.0.k_proj", "l.0.v_proj", "l.1.q_proj", "l.1.k_proj"},
              {false, true, true, true, true}) ==
      "vLLM joins the parts of a layer and cannot mix: in 'l.0' q_proj is kept, k_proj, v_proj are quantized; keep all "
      "parts or none");
  CHECK_THAT(warning({"a.gate_proj", "a.up_proj", "b.gate_proj", "b.up_proj"}, {true, false, false, true}),
             test::ContainsSubstring("up_proj is kept") && test::ContainsSubstring("and 1 more layer like it"));
  for (const Names& parts :
       {Names{"w1", "w3"}, Names{"query", "value"}, Names{"to_q", "to_k"}, Names{"in_proj_b", "in_proj_a"},
        Names{"q_a_proj", "kv_a_proj_with_mqa"}, Names{"wq", "wv"}}) {
    CHECK_FALSE(warning({"a." + parts[0], "a." + parts[1]}, {true, false}).empty());
    CHECK(warning({"a." + parts[0], "a." + parts[1]}, {true, true}).empty());
    CHECK(warning({"a." + parts[0], "b." + parts[1]}, {true, false}).empty());
  }
  CHECK(warning({"a.down_proj", "a.up_proj", "q_proj", "k_proj"}, {false, true, true, false}).empty());
}

}  // namespace
}  // namespace q4
