// Replays what transformers itself would quantize, as recorded by tests/python/policy_check.py: testdata/policy, or
// the file that Q4_POLICY_FIXTURE names.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/experts.h"
#include "libconvert/policy/fused_layers.h"
#include "libconvert/policy/module_names.h"
#include "libconvert/policy/policy.h"
#include "libconvert/policy/rules.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

// What transformers does with a tensor: "linear" and "conv1d" are quantized, "expert" and "kept" are not.
struct Recorded {
  SourceTensor tensor;
  std::string kind;
};

struct Architecture {
  std::string name;
  std::string config;
  std::vector<Recorded> tensors;
  // Matrices that have other names in memory: by the name on disk, of this checkpoint or of older ones. A tensor with
  // several places is split.
  std::map<std::string, std::vector<std::string>> places;
  std::set<std::string> converted;  // those of them that are more than renamed

  std::vector<SourceTensor> infos() const {
    std::vector<SourceTensor> infos;
    for (const Recorded& recorded : tensors) infos.push_back(recorded.tensor);
    return infos;
  }
};

std::vector<Architecture> LoadModels() {
  const char* path = std::getenv("Q4_POLICY_FIXTURE");
  const std::string text = test::ReadBytes(path != nullptr ? path : Q4_TESTDATA "/policy/architectures.json");
  const auto document = ParseJson(text, "architectures.json", 16);
  REQUIRE(document.ok());
  std::vector<Architecture> models;
  for (const Json& entry : document->at("entries")) {
    Architecture model;
    model.config = entry.at("config").dump();
    model.name = entry.at("config").at("architectures").at(0).get<std::string>();
    // "kept 2": the names of tensors that are kept and have two dimensions. The policy asks for no more than the
    // rank.
    for (const auto& [kind_and_rank, names] : entry.at("tensors").items()) {
      const std::size_t space = kind_and_rank.find(' ');
      for (const Json& name : names) {
        SourceTensor tensor;
        tensor.name = name.get<std::string>();
        tensor.dtype = DType::kBF16;
        tensor.shape.assign(static_cast<std::size_t>(std::stoi(kind_and_rank.substr(space + 1))), 2);
        tensor.elems = std::uint64_t{1} << tensor.shape.size();
        model.tensors.push_back({std::move(tensor), kind_and_rank.substr(0, space)});
      }
    }
    if (entry.contains("names")) {
      for (const auto& [name, places] : entry.at("names").items()) {
        if (places.is_array()) {
          model.places[name] = places.get<std::vector<std::string>>();
        } else {
          model.places[name] = {places.get<std::string>()};
        }
      }
    }
    if (entry.contains("converted")) model.converted = entry.at("converted").get<std::set<std::string>>();
    models.push_back(std::move(model));
  }
  return models;
}

// The one difference that is left as it is: in these classes the last parameter is that of the last layer's last
// module, which transformers therefore spares (docs/policy.md, D3).
const std::map<std::string, std::string> kLastLayerSpared = {
    {"HrmTextModel", "^H_module.layers.#.mlp.down_proj"},
    {"NanoChatModel", "^layers.#.mlp.fc2"},
    {"OlmoModel", "^layers.#.mlp.down_proj"},
};

bool IsSparedLastLayer(const std::string& model, const SourceTensor& tensor) {
  const auto found = kLastLayerSpared.find(model);
  return found != kLastLayerSpared.end() && MatchesModule(found->second, ModuleOf(tensor.name));
}

// The name with `part` behind its first part.
std::string WithInside(const std::string& name, const std::string& part) {
  const std::size_t dot = name.find('.');
  return dot == std::string::npos ? name : name.substr(0, dot + 1) + part + "." + name.substr(dot + 1);
}

TEST_CASE("the default policy quantizes what transformers quantizes") {
  std::size_t tensors = 0, experts = 0, transposed = 0, differences = 0;
  std::set<std::string> spared, model_types;
  const std::vector<Architecture> models = LoadModels();
  for (const Architecture& model : models) {
    const auto decisions = DecideTensors(model.infos(), model.config, {});
    REQUIRE(decisions.ok());
    const auto fused = FusedExperts(model.infos(), model.config);
    REQUIRE(fused.ok());
    model_types.insert(ModelKinds(model.config)->front());
    for (std::size_t i = 0; i < decisions->size(); ++i) {
      const auto& [tensor, kind] = model.tensors[i];
      const Decision& decision = (*decisions)[i];
      ++tensors;
      bool agrees = decision.quantize == (kind == "linear") && !(*fused)[i];
      if (kind == "expert") {
        agrees = decision.quantize && decision.reason == "expert weight" && (*fused)[i];
        ++experts;
      } else if (kind == "conv1d") {
        agrees = !decision.quantize && decision.reason.starts_with("Conv1D weight");
        ++transposed;
      } else if (!agrees && IsSparedLastLayer(model.name, tensor)) {
        spared.insert(model.name);
        agrees = true;
      }
      if (agrees) continue;
      ++differences;
      UNSCOPED_INFO(model.name << ": " << tensor.name << " is \"" << kind
                               << "\" to transformers; q4: " << decision.reason);
    }
  }
  CHECK(differences == 0);
  CHECK(spared.size() == kLastLayerSpared.size());
  std::printf(
      "policy: %zu classes of %zu model types, %zu tensors, %zu undocumented differences "
      "(documented: %zu expert weights, %zu Conv1D weights, %zu last layers)\n",
      models.size(), model_types.size(), tensors, differences, experts, transposed, spared.size());
}

TEST_CASE("names that a wrapper changed are decided as the model's own") {
  // Each puts something into a name; a model has one of them, in turn.
  using Wrap = std::string (*)(const std::string&);
  const std::vector<Wrap> wraps = {
      [](const std::string& name) { return "_orig_mod." + name; },
      [](const std::string& name) { return "module." + name; },
      [](const std::string& name) { return "base_model.model." + name; },
      [](const std::string& name) { return "module._orig_mod._fsdp_wrapped_module." + name; },
      [](const std::string& name) { return WithInside(name, "_orig_mod"); },
      [](const std::string& name) { return WithInside(name, "_fsdp_wrapped_module._checkpoint_wrapped_module"); },
      [](const std::string& name) { return WithInside(name, "module"); },
  };
  std::size_t differences = 0, turn = 0;
  for (const Architecture& model : LoadModels()) {
    std::vector<SourceTensor> wrapped = model.infos();
    const Wrap wrap = wraps[turn++ % wraps.size()];
    for (SourceTensor& tensor : wrapped) tensor.name = wrap(tensor.name);
    const auto expected = DecideTensors(model.infos(), model.config, {});
    const auto got = DecideTensors(wrapped, model.config, {});
    REQUIRE((expected.ok() && got.ok()));
    for (std::size_t i = 0; i < got->size(); ++i) {
      if ((*got)[i].quantize == (*expected)[i].quantize && (*got)[i].reason == (*expected)[i].reason) continue;
      if (++differences < 10) UNSCOPED_INFO(model.name << ": " << wrapped[i].name << ": " << (*got)[i].reason);
    }
  }
  CHECK(differences == 0);
}

// The names of `module` in memory, and whether its weight is more than renamed, against what was recorded.
bool IsRightPlace(const ModuleNames& names, const Architecture& model, const std::string& tensor) {
  std::vector<std::string> expected;
  const auto found = model.places.find(tensor);
  const std::vector<std::string> places = found == model.places.end() ? std::vector{tensor} : found->second;
  for (const std::string& place : places) expected.emplace_back(ModuleOf(place));
  const std::string_view module = ModuleOf(tensor);
  const bool right =
      names.InMemory(module) == expected && names.IsConverted(module) == model.converted.contains(tensor);
  if (!right) UNSCOPED_INFO(model.name << ": " << tensor << " is put into " << names.InMemory(module).front());
  return right;
}

// "layers.3.mlp.fc1" -> "layers.#.mlp.fc#": one example of a kind is recorded.
std::string KindOf(const std::string& name) {
  std::string kind;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) {
      kind += c;
    } else if (kind.empty() || kind.back() != '#') {
      kind += '#';
    }
  }
  return kind;
}

TEST_CASE("tensors are in the modules that transformers puts them into") {
  std::size_t renamed = 0, unchanged = 0, converted = 0, wrong = 0;
  for (const Architecture& model : LoadModels()) {
    const ModuleNames names(model.config);
    for (const auto& [name, places] : model.places) {
      ++renamed;
      wrong += !IsRightPlace(names, model, name);
      // A checkpoint may as well have the names in memory.
      for (const std::string& place : places) {
        if (!model.places.contains(place)) wrong += !IsRightPlace(names, model, place);
      }
    }
    converted += model.converted.size();
    std::set<std::string> kinds;
    for (const auto& [name, places] : model.places) kinds.insert(KindOf(name));
    for (const auto& [tensor, kind] : model.tensors) {
      const bool is_matrix = tensor.shape.size() == 2 && tensor.name.ends_with(".weight") && kind != "expert";
      if (!is_matrix || kinds.contains(KindOf(tensor.name))) continue;
      ++unchanged;
      wrong += !IsRightPlace(names, model, tensor.name);
    }
  }
  CHECK(wrong == 0);
  CHECK(renamed > 1000);
  CHECK(converted > 50);
  std::printf("module names: %zu renamed, of which %zu converted, %zu unchanged\n", renamed, converted, unchanged);
}

TEST_CASE("by default no layer that vLLM joins is quantized in part") {
  std::size_t joined = 0;
  for (const Architecture& model : LoadModels()) {
    const auto decisions = DecideTensors(model.infos(), model.config, {});
    REQUIRE(decisions.ok());
    std::vector<std::string> modules;
    std::vector<bool> quantized;
    for (std::size_t i = 0; i < decisions->size(); ++i) {
      modules.emplace_back(ModuleOf(model.tensors[i].tensor.name));
      quantized.push_back((*decisions)[i].quantize);
    }
    const std::vector<FusedLayer> layers = FusedLayers(modules, quantized);
    joined += layers.size();
    INFO(model.name);
    CHECK(FusedLayersWarning(layers) == "");
  }
  CHECK(joined > 1000);
}

TEST_CASE("every rule of a model decides about some tensor") {
  std::set<const PolicyRule*> used;
  for (const Architecture& model : LoadModels()) {
    const std::vector<const PolicyRule*> rules = RulesFor(*ModelKinds(model.config));
    for (const Recorded& recorded : model.tensors) {
      for (const PolicyRule* rule : rules) {
        if (!MatchesModule(rule->modules, ModuleOf(recorded.tensor.name))) continue;
        used.insert(rule);
        break;
      }
    }
  }
  for (const PolicyRule& rule : ModelRules()) {
    INFO(rule.models << ": " << rule.modules);
    CHECK(used.contains(&rule));
  }
}

}  // namespace
}  // namespace q4
