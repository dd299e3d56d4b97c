#include "libconvert/policy/transformers_folders.h"

#include <string>
#include <utility>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/policy/experts.h"
#include "libconvert/policy/policy.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

using test::Must;
using Folders = std::vector<std::string>;

ModelConfigs Configs(std::string root, const std::vector<std::pair<std::string, std::string>>& folders) {
  ModelConfigs configs(std::move(root));
  for (const auto& [folder, text] : folders) {
    configs.folders.push_back(folder);
    configs.texts.push_back(text);
  }
  return configs;
}

SourceTensor Matrix(const std::string& name) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.shape = {8, 8};
  tensor.elems = 64;
  tensor.bytes = 256;
  return tensor;
}

std::string ReasonOf(const ModelConfigs& configs, const std::string& name, const PolicyOptions& options = {},
                     const Folders& beside = {}) {
  std::vector<SourceTensor> tensors = {Matrix(name)};
  for (const std::string& each : beside) tensors.push_back(Matrix(each));
  return Must(DecideTensors(tensors, configs, options)).front().reason;
}

const ModelConfigs kModel = Configs(R"({"model_type":"bert"})", {{"0_T", R"({"architectures":["WhisperModel"],
                                                                            "model_type":"whisper"})"},
                                                                 {"2_Dense", R"({"in_features":8})"},
                                                                 {"3_Static", ""}});

TEST_CASE("folders of transformers are those whose configuration names a model") {
  CHECK(Must(TransformersFolders(kModel)) == Folders{"", "0_T"});
  CHECK(Must(TransformersFolders(Configs("{}", {{"a", ""}}))) == Folders{});
  // Without module folders there is nothing else that it could be.
  CHECK(Must(TransformersFolders("")) == Folders{""});
  CHECK(Must(TransformersFolders("{}")) == Folders{""});
  const absl::Status status = TransformersFolders(Configs("", {{"a", "["}})).status();
  CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
  CHECK(MessageOf(status).starts_with("a: "));
}

TEST_CASE("what lies outside the transformers models is kept by default") {
  CHECK(ReasonOf(kModel, "2_Dense/linear.weight") == "module outside the transformers model");
  CHECK(ReasonOf(kModel, "3_Static/embedding.weight") == "module outside the transformers model");
  CHECK(ReasonOf(kModel, "encoder.layer.0.output.dense.weight") == "linear weight");
  CHECK(ReasonOf(kModel, "0_T/encoder.layers.0.fc1.weight") == "linear weight");
  CHECK(ReasonOf(Configs("", {{"1_Dense", ""}}), "other.weight") == "module outside the transformers model");
  // The user's rules see whole names.
  PolicyOptions options;
  options.patterns = {{.include = true, .regex = "^2_Dense/linear"}};
  CHECK(ReasonOf(kModel, "2_Dense/linear.weight", options) == "quantized: --include '^2_Dense/linear'");
}

TEST_CASE("rules of a model apply to names inside its folder, and to no other") {
  CHECK(ReasonOf(kModel, "0_T/proj_out.weight") == "output head");  // "^proj_out" of Whisper
  CHECK(ReasonOf(kModel, "proj_out.weight") == "linear weight");
  // Neighbours are those of the same folder.
  CHECK(ReasonOf(kModel, "0_T/a.out_proj.weight", {}, {"0_T/a.in_proj_weight"}) ==
        "output projection of nn.MultiheadAttention");
  CHECK(ReasonOf(kModel, "0_T/a.out_proj.weight", {}, {"a.in_proj_weight"}) == "linear weight");
  // Wrappers are looked through inside.
  CHECK(ReasonOf(kModel, "0_T/_orig_mod.proj_out.weight") == "output head");
}

TEST_CASE("experts are found in folders, too") {
  const std::vector<SourceTensor> tensors = {Matrix("0_T/layers.0.experts.1.up.weight"),
                                             Matrix("2_Dense/experts.1.up.weight")};
  CHECK(Must(FusedExperts(tensors, kModel)) == std::vector<bool>{true, false});
  CHECK_FALSE(SplitsExpertsWhenQuantized(kModel));
  CHECK(SplitsExpertsWhenQuantized(Configs("", {{"0_T", R"({"model_type":"llama4"})"}})));
}

}  // namespace
}  // namespace q4
