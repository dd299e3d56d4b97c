// What an adapter's configuration and the names of its tensors say. Hostile ones: tests/hostile/rows_adapter.py.
#include <string>
#include <vector>

#include "formats/adapter/adapter_config.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/adapter/adapter_parts.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

SourceTensor Factor(const std::string& name, const Shape& shape, DType dtype = DType::kF32) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = shape;
  REQUIRE(CountElements(shape, &tensor.elems));
  tensor.bytes = tensor.elems * ItemSize(dtype);
  tensor.extents.push_back({0, 0, tensor.bytes});
  return tensor;
}

AdapterConfig Config(const std::string& members) {
  const auto config = ParseAdapterConfig("{\"peft_type\": \"LORA\"" + members + "}", "adapter_config.json");
  REQUIRE(config.ok());
  return *config;
}

int IssueOf(const AdapterConfig& config, const std::vector<SourceTensor>& tensors) {
  return IssueNumberOf(ReadAdapterParts(config, tensors, "a.safetensors").status());
}

}  // namespace

TEST_CASE("an adapter's configuration is read with PEFT's defaults") {
  const AdapterConfig plain = Config("");
  CHECK(plain.rank == 8);
  CHECK(plain.alpha == 8);
  CHECK_FALSE((plain.rslora || plain.dora || plain.bias || plain.fan_in_fan_out || plain.keeps_ties));
  const AdapterConfig config = Config(
      R"(, "r": 4, "lora_alpha": 2.5, "use_rslora": true, "use_dora": true, "rank_pattern": {"b": 3, "a": 2},
         "alpha_pattern": {"c.d": 1}, "base_model_name_or_path": "x/y", "target_parameters": [], "modules_to_save": ["h"],
         "invented": 1)");
  CHECK(config.rank == 4);
  CHECK(config.alpha == 2.5);
  CHECK(config.rslora);
  CHECK(config.dora);
  REQUIRE(config.rank_pattern.size() == 2);
  CHECK(config.rank_pattern[0] == std::pair<std::string, std::uint64_t>("b", 3));  // the order of the file
  CHECK(config.alpha_pattern[0].first == "c.d");
  CHECK(config.base_model == "x/y");
  REQUIRE(config.notes.size() == 1);
  CHECK(config.notes[0].text.find("'invented'") != std::string::npos);
}

TEST_CASE("an adapter's scale is computed in double precision and rounded once") {
  const AdapterConfig plain = Config(R"(, "r": 3)"), rslora = Config(R"(, "r": 3, "use_rslora": true)");
  CHECK(AdapterScale(plain, 10, 3) == static_cast<float>(10.0 / 3.0));
  CHECK(AdapterScale(rslora, 10, 3) == static_cast<float>(10.0 / std::sqrt(3.0)));
}

TEST_CASE("tensors of an adapter are put together by their names") {
  const std::vector<SourceTensor> tensors = {
      Factor("base_model.model.m.q.lora_A.weight", {2, 6}),
      Factor("base_model.model.m.q.lora_B.weight", {4, 2}),
      Factor("m.k.lora_A.weight", {2, 6}),
      Factor("m.k.lora_B.weight", {4, 2}),
      Factor("base_model.model.m.e.lora_embedding_A", {2, 9}),
      Factor("base_model.model.m.e.lora_embedding_B", {6, 2}),
      Factor("base_model.model.m.e.base_layer.weight", {9, 6}),
      Factor("base_model.model.head.weight", {9, 6}),
      Factor("base_model.model.score.modules_to_save.default.out.weight", {1, 6}),
      Factor("base_model.model.score.original_module.out.weight", {1, 6}),
      Factor("base_model.model.m.q.base_layer.bias", {4}),
  };
  const auto parts = ReadAdapterParts(Config(R"(, "r": 2, "modules_to_save": ["ead"])"), tensors, "a.safetensors");
  REQUIRE(parts.ok());
  REQUIRE(parts->modules.size() == 3);
  CHECK(parts->modules.at("m.q").a == &tensors[0]);
  CHECK(parts->modules.at("m.q").b == &tensors[1]);
  CHECK(parts->modules.at("m.k").b == &tensors[3]);
  CHECK(parts->modules.at("m.e").is_embedding);
  CHECK_FALSE(parts->modules.at("m.q").is_embedding);
  REQUIRE(parts->replaced.size() == 4);
  CHECK(parts->replaced.at("m.e.weight").tensor == &tensors[6]);
  CHECK(parts->replaced.at("head.weight").tensor == &tensors[7]);
  CHECK(parts->replaced.at("score.out.weight").tensor == &tensors[8]);
  CHECK(parts->replaced.at("m.q.bias").tensor == &tensors[10]);
  CHECK(parts->replaced.at("score.out.weight").is_copy);
  CHECK(parts->replaced.at("head.weight").is_copy);
  CHECK_FALSE(parts->replaced.at("m.e.weight").is_copy);
  REQUIRE(parts->unused.size() == 1);
  CHECK(parts->unused[0] == &tensors[9]);
}

TEST_CASE("an adapter's name may stand in names, one for all") {
  const AdapterConfig config = Config(R"(, "r": 2, "use_dora": true)");
  std::vector<SourceTensor> tensors = {Factor("m.q.lora_A.default.weight", {2, 6}),
                                       Factor("m.q.lora_B.default.weight", {4, 2}),
                                       Factor("m.q.lora_magnitude_vector.default.weight", {4})};
  CHECK(IssueOf(config, tensors) == 0);
  tensors[2].name = "m.q.lora_magnitude_vector.default";
  CHECK(IssueOf(config, tensors) == 0);
  tensors[2].name = "m.q.lora_magnitude_vector";
  CHECK(IssueOf(config, tensors) == kAdapterParts.number);
  tensors[2].name = "m.q.lora_magnitude_vector.default.x.weight";
  CHECK(IssueOf(config, tensors) == kAdapterTensor.number);
}

TEST_CASE("factors that do not belong together are refused") {
  const AdapterConfig config = Config(R"(, "r": 2)");
  const SourceTensor a = Factor("m.lora_A.weight", {2, 6}), b = Factor("m.lora_B.weight", {4, 2});
  CHECK(IssueOf(config, {a, b}) == 0);
  CHECK(IssueOf(config, {a}) == kAdapterParts.number);
  CHECK(IssueOf(config, {b}) == kAdapterParts.number);
  CHECK(IssueOf(config, {a, Factor("m.lora_B.weight", {4, 3})}) == kAdapterRank.number);
  CHECK(IssueOf(config, {a, Factor("m.lora_B.weight", {8})}) == kAdapterShape.number);
  CHECK(IssueOf(config, {a, b, Factor("m.lora_B.bias", {4})}) == kAdapterParts.number);
  CHECK(IssueOf(config, {a, b, Factor("m.lora_E", {4})}) == kAdapterTensor.number);
  CHECK(IssueOf(config, {a, Factor("m.lora_B.weight", {4, 2}, DType::kI32)}) == kAdapterDType.number);
}

TEST_CASE("members of a configuration that are not what PEFT writes are refused by name") {
  struct Wrong {
    std::string members;
    const Issue& issue;
    std::string says;
  };
  const std::vector<Wrong> all = {
      {R"("peft_type": 3)", kAdapterConfig, "peft_type"},
      {R"("r": 4)", kAdapterConfig, "no such member"},
      {R"("peft_type": "LOHA")", kAdapterMethod, "peft_type LOHA"},
      {R"("peft_type": "LORA", "r": 0)", kAdapterConfig, ": r:"},
      {R"("peft_type": "LORA", "r": 65537)", kAdapterConfig, ": r:"},
      {R"("peft_type": "LORA", "r": 1.5)", kAdapterConfig, ": r:"},
      {R"("peft_type": "LORA", "lora_alpha": "8")", kAdapterConfig, "lora_alpha"},
      {R"("peft_type": "LORA", "lora_alpha": NaN)", kAdapterConfig, "lora_alpha"},
      {R"("peft_type": "LORA", "lora_alpha": 2e30)", kAdapterConfig, "lora_alpha"},
      {R"("peft_type": "LORA", "use_rslora": 1)", kAdapterConfig, "use_rslora"},
      {R"("peft_type": "LORA", "use_dora": "yes")", kAdapterConfig, "use_dora"},
      {R"("peft_type": "LORA", "lora_bias": 0)", kAdapterConfig, "lora_bias"},
      {R"("peft_type": "LORA", "fan_in_fan_out": [])", kAdapterConfig, "fan_in_fan_out"},
      {R"("peft_type": "LORA", "ensure_weight_tying": 1)", kAdapterConfig, "ensure_weight_tying"},
      {R"("peft_type": "LORA", "rank_pattern": [2])", kAdapterConfig, "rank_pattern"},
      {R"("peft_type": "LORA", "rank_pattern": {"q": 0})", kAdapterConfig, "rank_pattern.q"},
      {R"("peft_type": "LORA", "alpha_pattern": "q")", kAdapterConfig, "alpha_pattern"},
      {R"("peft_type": "LORA", "alpha_pattern": {"q": null})", kAdapterConfig, "alpha_pattern.q"},
      {R"("peft_type": "LORA", "modules_to_save": "head")", kAdapterConfig, "modules_to_save"},
      {R"("peft_type": "LORA", "modules_to_save": [3])", kAdapterConfig, "modules_to_save"},
      {R"("peft_type": "LORA", "layer_replication": [[0, 2]])", kAdapterMethod, "layer_replication"},
      {R"("peft_type": "LORA", "init_lora_weights": "pissa")", kAdapterMethod, "init_lora_weights pissa"},
  };
  for (const Wrong& wrong : all) {
    const absl::Status status = ParseAdapterConfig("{" + wrong.members + "}", "adapter_config.json").status();
    INFO(wrong.members << ": " << MessageOf(status));
    CHECK(IssueNumberOf(status) == wrong.issue.number);
    CHECK(MessageOf(status).find(wrong.says) != std::string::npos);
  }
  const absl::Status list = ParseAdapterConfig("[]", "adapter_config.json").status();
  CHECK(IssueNumberOf(list) == kAdapterConfig.number);
  CHECK(MessageOf(list).find("got no object") != std::string::npos);
}

TEST_CASE("what Python takes for false is not set, and harmless ways to begin are read") {
  const AdapterConfig config = Config(
      R"(, "layer_replication": null, "arrow_config": {}, "target_parameters": [], "use_qalora": false,
         "use_bdlora": 0, "kasa_config": "", "init_lora_weights": "Gaussian", "rank_pattern": null, "r": 65536,
         "lora_alpha": -1e30, "mine": null, "yours": ["x"])");
  CHECK(config.rank == 65536);
  CHECK(config.alpha == -1e30);
  REQUIRE(config.notes.size() == 1);
  CHECK(config.notes[0].text.find("'yours'") != std::string::npos);
}

TEST_CASE("tensors of an adapter that have no place, or one that is taken, are refused") {
  const SourceTensor a = Factor("m.lora_A.weight", {2, 6}), b = Factor("m.lora_B.weight", {4, 2});
  const AdapterConfig plain = Config(R"(, "r": 2)");
  CHECK(IssueOf(plain, {a, b, Factor("base_model.model.m.lora_A.weight", {2, 6})}) == kAdapterParts.number);
  CHECK(IssueOf(plain, {a, Factor("m.lora_B.other.weight", {4, 2})}) == kAdapterParts.number);
  CHECK(IssueOf(plain, {Factor("h.weight", {2}), Factor("base_model.model.h.weight", {2})}) == kAdapterParts.number);
  CHECK(IssueOf(plain, {Factor("h.modules_to_save", {2})}) == kAdapterTensor.number);
  CHECK(IssueOf(plain, {Factor("m.lora_A", {2, 6}), b}) == kAdapterTensor.number);
  CHECK(IssueOf(plain, {Factor("m.lora_A.bias", {2}), b}) == kAdapterTensor.number);
  CHECK(IssueOf(plain, {Factor("m.lora_embedding_A.weight", {2, 6})}) == kAdapterTensor.number);
  CHECK(IssueOf(plain, {a, b, Factor("m.lora_magnitude_vector", {4})}) == kAdapterParts.number);
  CHECK(IssueOf(plain, {Factor("m.lora_A.weight", {12}), b}) == kAdapterShape.number);
  const AdapterConfig dora = Config(R"(, "use_dora": true, "lora_bias": true)");
  const SourceTensor bias = Factor("m.lora_B.bias", {4}), magnitude = Factor("m.lora_magnitude_vector", {4});
  CHECK(IssueOf(dora, {a, b, bias, magnitude}) == 0);
  CHECK(IssueOf(dora, {a, b, bias}) == kAdapterParts.number);
  CHECK(IssueOf(dora, {a, b, magnitude}) == kAdapterParts.number);
}

}  // namespace q4
