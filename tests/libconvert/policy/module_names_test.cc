#include "libconvert/policy/module_names.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace q4 {
namespace {

using Names = std::vector<std::string>;

const ModuleNames kGemma3(R"({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"})");

TEST_CASE("a vision-language model's modules have other names in memory than on disk") {
  CHECK(kGemma3.InMemory("language_model.model.layers.17.mlp.up_proj") ==
        Names{"model.language_model.layers.17.mlp.up_proj"});
  CHECK(kGemma3.InMemory("language_model.lm_head") == Names{"lm_head"});
  CHECK(kGemma3.InMemory("vision_tower.vision_model.encoder.layers.2.mlp.fc1") ==
        Names{"model.vision_tower.encoder.layers.2.mlp.fc1"});
}

TEST_CASE("names in memory are their own") {
  for (const std::string name :
       {"model.language_model.layers.0.mlp.up_proj", "lm_head", "model.multi_modal_projector"}) {
    CHECK(kGemma3.InMemory(name) == Names{name});
  }
}

TEST_CASE("a rename ends at a dot") {
  CHECK(kGemma3.InMemory("language_model.modelling.x") == Names{"language_model.modelling.x"});
  CHECK(kGemma3.InMemory("language_model") == Names{"language_model"});
  CHECK(kGemma3.InMemory("") == Names{""});
}

TEST_CASE("numbers stay where they belong") {
  const ModuleNames names(R"({"architectures": ["SegformerModel"], "model_type": "segformer"})");
  CHECK(names.InMemory("encoder.block.3.12.attention.self.query") == Names{"stages.3.blocks.12.attention.q_proj"});
}

TEST_CASE("a tensor that is split has several modules and cannot be in 4 bits") {
  const ModuleNames names(R"({"architectures": ["NomicBertModel"], "model_type": "nomic_bert"})");
  CHECK(names.InMemory("encoder.layers.4.attn.Wqkv") ==
        Names{"layers.4.self_attn.q_proj", "layers.4.self_attn.k_proj", "layers.4.self_attn.v_proj"});
  CHECK(names.IsConverted("encoder.layers.4.attn.Wqkv"));
  CHECK_FALSE(names.IsConverted("encoder.layers.4.attn.out_proj"));
}

TEST_CASE("a class that is not known, or none, counts as the one of its type with most renames") {
  CHECK(ModuleNames(R"({"model_type": "gemma3"})").InMemory("language_model.model.norm") ==
        Names{"model.language_model.norm"});
  CHECK(
      ModuleNames(R"({"architectures": ["MyGemma"], "model_type": "gemma3"})").InMemory("language_model.model.norm") ==
      Names{"model.language_model.norm"});
}

TEST_CASE("without renames every name is its own") {
  for (const std::string config : {R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})", "", "[]", "{",
                                   R"({"architectures": 7, "model_type": []})", R"({"architectures": [null]})"}) {
    CHECK(ModuleNames(config).InMemory("language_model.model.norm") == Names{"language_model.model.norm"});
    CHECK_FALSE(ModuleNames(config).IsConverted("encoder.layers.4.attn.Wqkv"));
  }
}

}  // namespace
}  // namespace q4
