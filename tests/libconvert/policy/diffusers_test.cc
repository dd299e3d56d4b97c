// Replays what diffusers itself would put in 4 bits, as recorded by tests/python/diffusers_policy_check.py in
// testdata/policy, and asks for the names that its skip list needs.
#include "libconvert/policy/diffusers.h"

#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/experts.h"
#include "libconvert/policy/policy.h"
#include "libconvert/policy/policy_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

struct Component {
  std::string name, config;
  std::vector<SourceTensor> tensors;
  std::vector<bool> linear;  // to diffusers
};

SourceTensor Tensor(const std::string& name, std::size_t rank) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = DType::kBF16;
  tensor.shape.assign(rank, 2);
  tensor.elems = std::uint64_t{1} << (rank % 64);  // ranks beyond any tensor are tried too
  return tensor;
}

std::string ConfigOf(const std::string& name) {
  return R"({"_class_name": ")" + name + R"(", "_diffusers_version": "0.42.1"})";
}

std::vector<Component> Load() {
  const std::string text = test::ReadBytes(Q4_TESTDATA "/policy/diffusers.json");
  std::vector<Component> components;
  const Json document = test::Must(ParseJson(text, "diffusers.json", 16));
  for (const Json& entry : document.at("entries")) {
    Component component;
    component.name = entry.at("class").get<std::string>();
    component.config = ConfigOf(component.name);
    // "linear 2": the names of matrices that diffusers replaces.
    for (const auto& [kind_and_rank, names] : entry.at("tensors").items()) {
      const std::size_t space = kind_and_rank.find(' ');
      for (const Json& name : names) {
        component.tensors.push_back(Tensor(name.get<std::string>(), std::stoul(kind_and_rank.substr(space + 1))));
        component.linear.push_back(kind_and_rank.substr(0, space) == "linear");
      }
    }
    components.push_back(std::move(component));
  }
  return components;
}

TEST_CASE("the default policy of a component quantizes what diffusers quantizes") {
  std::size_t tensors = 0;
  std::string differences;
  std::set<std::string> classes;
  for (const Component& component : Load()) {
    classes.insert(component.name);
    const auto decisions = test::Must(DecideTensors(component.tensors, component.config, {}));
    const auto experts = test::Must(FusedExperts(component.tensors, component.config));
    for (std::size_t i = 0; i < decisions.size(); ++i) {
      ++tensors;
      if (decisions[i].quantize == component.linear[i] && !experts[i]) continue;
      differences += fmt::format("{}: {} is {} to diffusers; q4: {}\n", component.name, component.tensors[i].name,
                                 component.linear[i] ? "linear" : "kept", decisions[i].reason);
    }
  }
  CHECK(differences == "");
  CHECK(classes.size() > 140);
  std::printf("policy: %zu classes of diffusers, %zu tensors\n", classes.size(), tensors);
}

TEST_CASE("every rule of a component decides about some tensor") {
  std::set<const PolicyRule*> used;
  for (const Component& component : Load()) {
    const auto rules = RulesFor(test::Must(ModelKinds(component.config)));
    for (const SourceTensor& tensor : component.tensors) {
      for (const PolicyRule* rule : rules) {
        if (!MatchesModule(rule->modules, ModuleOf(tensor.name))) continue;
        used.insert(rule);
        break;
      }
    }
  }
  for (const PolicyRule& rule : DiffusersRules()) {
    INFO(rule.models << ": " << rule.modules);
    CHECK(used.contains(&rule));
  }
}

TEST_CASE("a component is known by its class, and no model of transformers is one") {
  CHECK(DiffusersClassOf(ConfigOf("FluxTransformer2DModel")) == "FluxTransformer2DModel");
  CHECK(DiffusersClassOf(R"({"_class_name": "AutoencoderKL"})") == "AutoencoderKL");
  for (const char* text : {"", "{", "[]", R"({"_class_name": 3})", R"({"_class_name": "X", "model_type": "clip"})",
                           R"({"_class_name": "X", "architectures": ["Y"]})"}) {
    INFO(text);
    CHECK(DiffusersClassOf(text).empty());
  }
}

TEST_CASE("the skip list names what diffusers would replace by itself, and no quantized module is caught") {
  const auto skip = [](const std::vector<std::string>& names, const std::vector<bool>& quantized,
                       const std::vector<bool>& defaults) {
    std::vector<SourceTensor> tensors;
    for (const std::string& name : names) tensors.push_back(Tensor(name + ".weight", 2));
    return DiffusersModulesToSkip(tensors, quantized, defaults);
  };
  using Names = std::vector<std::string>;
  // Nothing is kept but what diffusers keeps by itself.
  CHECK(test::Must(skip({"class_embedding", "blocks.0.to_q"}, {false, true}, {false, true})).empty());
  CHECK(test::Must(skip({"x_embedder", "blocks.0.to_q", "norm_out.linear"}, {false, true, false},
                        {true, true, true})) == Names{"norm_out.linear", "x_embedder"});
  // Names on disk that diffusers changes.
  CHECK(test::Must(skip({"mid_block.attentions.0.proj_attn", "a.to_q"}, {false, true}, {true, true})) ==
        Names{"mid_block.attentions.0.to_out.0"});
  // Caught by the last part of the name, by a prefix, and by a part in the middle.
  CHECK(IssueNumberOf(skip({"proj_out", "single.0.proj_out"}, {false, true}, {true, true}).status()) ==
        kSkipCatches.number);
  CHECK(IssueNumberOf(skip({"a.b", "a.b.c"}, {false, true}, {true, true}).status()) == kSkipCatches.number);
  CHECK(IssueNumberOf(skip({"a.b", "x.a.b.c"}, {false, true}, {true, true}).status()) == kSkipCatches.number);
  CHECK(test::Must(skip({"single.0.proj_out", "proj_out"}, {false, true}, {true, true})) == Names{"single.0.proj_out"});
}

TEST_CASE("attention layers of older VAEs have new names") {
  CHECK(DiffusersModuleName("encoder.mid_block.attentions.0.query") == "encoder.mid_block.attentions.0.to_q");
  CHECK(DiffusersModuleName("decoder.mid_block.attentions.0.proj_attn") == "decoder.mid_block.attentions.0.to_out.0");
  for (const char* same : {"mid_block.attentions.0.to_q", "query", "value", "attn.key", "attentions.0.group_norm"}) {
    CHECK(DiffusersModuleName(same) == same);
  }
}

}  // namespace
}  // namespace q4
