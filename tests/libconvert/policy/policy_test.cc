#include "libconvert/policy/policy.h"

#include <string>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/policy/skip_modules.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

SourceTensor Tensor(const std::string& name, Shape shape, DType dtype = DType::kBF16) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.elems = 1;
  for (const std::uint64_t dimension : shape) tensor.elems *= dimension;
  tensor.bytes = tensor.elems * ItemSize(dtype);
  tensor.shape = std::move(shape);
  return tensor;
}

Decision DecideOne(const SourceTensor& tensor, const PolicyOptions& options = {}, const std::string& config = "") {
  const auto decisions = DecideTensors({tensor}, config, options);
  REQUIRE(decisions.ok());
  REQUIRE(decisions->size() == 1);
  return decisions->front();
}

PolicyOptions Patterns(std::vector<PatternRule> patterns) {
  PolicyOptions options;
  options.patterns = std::move(patterns);
  return options;
}

const SourceTensor kUpProjTensor = Tensor("model.layers.11.mlp.up_proj.weight", {64, 32});
const SourceTensor kNormTensor = Tensor("model.norm.weight", {64});

TEST_CASE("without a configuration the general rules decide") {
  const std::vector<SourceTensor> tensors = {
      Tensor("model.embed_tokens.weight", {1000, 64}),
      Tensor("model.layers.0.self_attn.q_proj.weight", {64, 64}),
      Tensor("model.layers.0.self_attn.q_proj.bias", {64}),
      Tensor("model.layers.0.input_layernorm.weight", {64}),
      Tensor("model.layers.0.mlp.gate.weight", {8, 64}),
      Tensor("model.layers.0.mlp.experts.3.down_proj.weight", {64, 96}),
      Tensor("model.layers.1.mlp.experts.gate_up_proj", {8, 64, 192}),
      Tensor("model.layers.1.mlp.experts.gate_up_proj_bias", {8, 192}),
      Tensor("model.layers.1.mlp.router.weight", {8, 64}),
      Tensor("model.layers.2.mlp.gate.weight", {96, 64}),
      Tensor("visual.patch_embed.proj.weight", {64, 3, 14, 14}),
      Tensor("lm_head.weight", {1000, 64}),
  };
  const std::vector<std::string> reasons = {
      "embedding", "linear weight", "not a layer's weight", "not a 2-D weight",
      "router",    "expert weight", "expert weight",        "not a layer's weight",
      "router",    "linear weight", "not a 2-D weight",     "output head",
  };
  const auto decisions = DecideTensors(tensors, "", {});
  REQUIRE(decisions.ok());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    INFO(tensors[i].name);
    CHECK((*decisions)[i].reason == reasons[i]);
    CHECK((*decisions)[i].quantize == (reasons[i] == "linear weight" || reasons[i] == "expert weight"));
  }
}

TEST_CASE("settings are the defaults unless a rule changes them") {
  PolicyOptions options;
  options.defaults = {{Q4Scheme::kFp4, 128, false}, Q4Encoder::kMse};
  CHECK(DecideOne(kUpProjTensor, options).settings == options.defaults);
}

TEST_CASE("a pattern is searched anywhere in the name, and the last that matches wins") {
  CHECK_FALSE(DecideOne(kUpProjTensor, Patterns({{false, "mlp"}})).quantize);
  CHECK_FALSE(DecideOne(kUpProjTensor, Patterns({{false, "layers\\.1[01]\\."}})).quantize);
  CHECK(DecideOne(kUpProjTensor, Patterns({{false, "^mlp"}})).quantize);
  CHECK(DecideOne(kUpProjTensor, Patterns({{false, "mlp$"}})).quantize);
  CHECK(DecideOne(kUpProjTensor, Patterns({{false, "mlp"}, {true, "layers\\.11\\."}})).quantize);
  CHECK_FALSE(DecideOne(kUpProjTensor, Patterns({{true, "layers\\.11\\."}, {false, "mlp"}})).quantize);
  CHECK_FALSE(DecideOne(kUpProjTensor, Patterns({{false, "mlp"}, {true, "attn"}})).quantize);
  CHECK(DecideOne(kNormTensor, Patterns({{true, "norm"}})).quantize);
}

TEST_CASE("the reason quotes the pattern that decided") {
  CHECK(DecideOne(kUpProjTensor, Patterns({{false, "x"}, {false, "mlp"}})).reason == "kept: --exclude 'mlp'");
  CHECK(DecideOne(kNormTensor, Patterns({{true, "norm"}})).reason == "quantized: --include 'norm'");
}

TEST_CASE("an expression that does not compile is a usage error that names it") {
  for (const bool include : {true, false}) {
    const auto decisions = DecideTensors({kUpProjTensor}, "", Patterns({{true, "ok"}, {include, "mlp("}}));
    REQUIRE_FALSE(decisions.ok());
    CHECK(ExitCodeOf(decisions.status()) == ExitCode::kUsage);
    CHECK_THAT(MessageOf(decisions.status()),
               test::ContainsSubstring("mlp(") && test::ContainsSubstring(include ? "--include" : "--exclude"));
  }
  const auto decisions = DecideTensors({kUpProjTensor}, "", Patterns({{true, "\xff"}}));
  REQUIRE_FALSE(decisions.ok());
  CHECK(ExitCodeOf(decisions.status()) == ExitCode::kUsage);
}

TEST_CASE("no rule quantizes what cannot be quantized") {
  const PolicyOptions include_all = Patterns({{true, "."}});
  CHECK(DecideOne(Tensor("x.weight", {4, 4}, DType::kI64), include_all).reason == "dtype I64");
  CHECK_FALSE(DecideOne(Tensor("x.weight", {4, 4}, DType::kF64), include_all).quantize);
  CHECK_FALSE(DecideOne(Tensor("x.weight", {4, 4}, DType::kF8E4M3), include_all).quantize);
  CHECK(DecideOne(Tensor("x.weight", {0, 4}), include_all).reason == "no elements");
  CHECK_FALSE(DecideOne(Tensor("x.weight", {0, 4})).quantize);
  CHECK(DecideOne(Tensor("scalar", {}), include_all).quantize);
}

TEST_CASE("a recipe is applied rule by rule, field by field, before the patterns") {
  PolicyOptions options;
  options.defaults.encoder = Q4Encoder::kMse;
  const auto recipe = ParseRecipe(R"({"rules": [
      {"match": "mlp", "block_size": 128, "type": "fp4"},
      {"match": "up_proj", "block_size": 256, "encoder": "absmax"},
      {"match": "down_proj", "block_size": 512},
      {"match": "norm", "keep": false},
      {"match": "layers\\.11\\.mlp", "keep": true},
      {"match": "up_proj", "keep": false}]})",
                                  "recipe.json");
  REQUIRE(recipe.ok());
  options.recipe = *recipe;
  const Decision up = DecideOne(kUpProjTensor, options);
  CHECK(up.quantize);
  CHECK(up.reason == "quantized: recipe rule 6");
  CHECK(up.settings == QuantSettings{{Q4Scheme::kFp4, 256, true}, Q4Encoder::kAbsmax});
  CHECK(DecideOne(kNormTensor, options).settings.encoder == Q4Encoder::kMse);
  CHECK(DecideOne(Tensor("model.layers.11.mlp.gate_proj.weight", {64, 32}), options).reason == "kept: recipe rule 5");
  CHECK(DecideOne(kNormTensor, options).quantize);
  options.patterns = {{false, "up_proj"}};
  CHECK_FALSE(DecideOne(kUpProjTensor, options).quantize);
}

TEST_CASE("rules of a model apply to every place in config.json that names it") {
  const SourceTensor wo = Tensor("text_encoder.encoder.block.0.layer.1.DenseReluDense.wo.weight", {64, 64});
  CHECK(DecideOne(wo).quantize);
  CHECK_FALSE(DecideOne(wo, {}, R"({"model_type": "t5"})").quantize);
  CHECK_FALSE(DecideOne(wo, {}, R"({"model_type": "musicgen", "text_encoder": {"model_type": "t5"}})").quantize);
  CHECK(DecideOne(wo, {}, R"({"model_type": ["t5"], "architectures": "t5", "x": [null, 1, "t5"]})").quantize);
  CHECK(DecideOne(wo, {}, "[1]").quantize);  // names no model; a plan refuses it

  const SourceTensor head = Tensor("lm_head.weight", {32, 64});
  CHECK_FALSE(DecideOne(head, {}, R"({"model_type": "wav2vec2"})").quantize);
  CHECK(DecideOne(head, {}, R"({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]})").quantize);
}

TEST_CASE("GPT-2's transposed weights are kept unless included") {
  const SourceTensor weight = Tensor("h.0.attn.c_attn.weight", {64, 192});
  const std::string config = R"({"model_type": "gpt2"})";
  CHECK(DecideOne(weight, {}, config).reason == "Conv1D weight (stored transposed)");
  CHECK(DecideOne(weight, Patterns({{true, "c_attn"}}), config).quantize);
}

TEST_CASE("a config.json that is not JSON is an error") {
  const auto decisions = DecideTensors({kUpProjTensor}, R"({"model_type": )", {});
  REQUIRE_FALSE(decisions.ok());
  CHECK(ExitCodeOf(decisions.status()) == ExitCode::kInvalidInput);
  CHECK_THAT(MessageOf(decisions.status()), test::ContainsSubstring("config.json"));
}

std::vector<std::string> Skipped(const std::vector<std::string>& kept, const std::vector<std::string>& quantized,
                                 const std::string& config = "") {
  std::vector<SourceTensor> tensors;
  for (const std::string& name : kept) tensors.push_back(Tensor(name, {8, 8}));
  for (const std::string& name : quantized) tensors.push_back(Tensor(name, {8, 8}));
  std::vector<bool> flags(kept.size(), false);
  flags.resize(tensors.size(), true);
  return ModulesToSkip(tensors, flags, config).entries;
}

using Names = std::vector<std::string>;

TEST_CASE("the skip list holds kept matrices, sorted, and the head even when it is tied") {
  CHECK(Skipped({"model.layers.1.mlp.up_proj.weight", "lm_head.weight"}, {"model.layers.11.mlp.up_proj.weight"}) ==
        Names{"lm_head", "model.layers.1.mlp.up_proj"});
  CHECK(Skipped({"model.embed_tokens.weight"}, {}) == Names{"lm_head", "model.embed_tokens"});
  CHECK(Skipped({}, {"lm_head.weight"}).empty());
  CHECK(Skipped({"x.scales"}, {}) == Names{"lm_head"});
  CHECK(ModulesToSkip({Tensor("norm.weight", {8}), Tensor("conv.weight", {8, 8, 3})}, {false, false}).entries ==
        Names{"lm_head"});
}

TEST_CASE("the skip list names the tied heads of models that call them otherwise") {
  CHECK(Skipped({}, {}, R"({"model_type": "whisper"})") == Names{"lm_head", "proj_out"});
  CHECK(Skipped({"bert.embeddings.word_embeddings.weight"}, {"cls.predictions.transform.dense.weight"}) ==
        Names{"bert.embeddings.word_embeddings", "cls.predictions.decoder", "lm_head"});
}

TEST_CASE("an entry that would catch a quantized module is anchored") {
  CHECK(Skipped({"proj.weight"}, {"layers.0.o_proj.weight"}) == Names{"^proj$", "lm_head"});
  CHECK(Skipped({"layers.1.weight"}, {"layers.1.fc.weight"}) == Names{"^layers.1$", "lm_head"});
  CHECK(Skipped({"layers.1.weight"}, {"layers.11.weight"}) == Names{"layers.1", "lm_head"});
}

}  // namespace
}  // namespace q4
