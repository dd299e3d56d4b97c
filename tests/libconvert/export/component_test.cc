// Components of diffusers pipelines: file names, configuration and skip list. With the real diffusers:
// tests/python/diffusers_check.py.
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/source/checkpoint.h"
#include "libconvert/export/export.h"
#include "libconvert/policy/policy_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::SafetensorsBuilder;
using test::TempDir;

// Formatted as no writer of q4 would, to see that it stays.
constexpr char kConfig[] =
    "{\"_class_name\": \"FluxTransformer2DModel\",\n   \"_diffusers_version\": \"0.30.0\", \"in_channels\": 64}";

void Add(SafetensorsBuilder* tensors, const std::string& name, const std::vector<std::uint64_t>& shape) {
  std::uint64_t elems = 1;
  for (const std::uint64_t dimension : shape) elems *= dimension;
  tensors->Add(name, "F32", shape, std::string(test::AsText(test::NormalValues(elems, 1))));
}

void Convert(const TempDir& temp, const std::vector<PatternRule>& patterns = {}, const std::string& config = kConfig) {
  SafetensorsBuilder tensors;
  for (const char* name :
       {"context_embedder", "proj_out", "single_transformer_blocks.0.proj_out", "x_embedder", "attentions.0.query"}) {
    Add(&tensors, std::string(name) + ".weight", {64, 64});
  }
  Add(&tensors, "attentions.0.query.bias", {64});
  Add(&tensors, "pos_embed.proj.weight", {64, 4, 2, 2});
  temp.Write("model/diffusion_pytorch_model.safetensors", tensors.Build());
  temp.Write("model/config.json", config);
  ConvertOptions options;
  options.policy.patterns = patterns;
  test::MustConvert(temp.File("model"), options, temp.File("m.q4"));
}

ExportReport Export(const TempDir& temp, const std::string& to, const std::string& output, std::uint64_t shard = 0) {
  ExportOptions options;
  options.to = to;
  options.shard_bytes = shard;
  options.dtype = to == "safetensors" ? std::optional<DType>(DType::kF16) : std::nullopt;
  return test::Must(ExportModel(PosixFileSystem(), temp.File("m.q4"), temp.File(output), options));
}

std::set<std::string> NamesIn(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.insert(entry.path().filename());
  return names;
}

Json ConfigIn(const TempDir& temp, const std::string& directory) {
  return test::Must(ParseJson(test::ReadBytes(temp.File(directory + "/config.json")), "config.json", 16));
}

TEST_CASE("a component keeps diffusers' file names") {
  const TempDir temp;
  Convert(temp);
  for (const std::string to : {"bnb", "safetensors"}) {
    Export(temp, to, to);
    CHECK(NamesIn(temp.File(to)).contains("diffusion_pytorch_model.safetensors"));
    CHECK_FALSE(NamesIn(temp.File(to)).contains("model.safetensors"));
    Export(temp, to, to + "_shards", 8192);
    const std::set<std::string> names = NamesIn(temp.File(to + "_shards"));
    CHECK(names.contains("diffusion_pytorch_model.safetensors.index.json"));
    CHECK_FALSE(names.contains("model.safetensors.index.json"));
    const auto shards = test::Must(OpenCheckpoint(PosixFileSystem(), temp.File(to + "_shards")));
    REQUIRE(shards->files().size() > 1);
    CHECK(shards->files().front().name.starts_with("diffusion_pytorch_model-00001-of-"));
    CHECK(shards->tensors().size() == test::Must(OpenCheckpoint(PosixFileSystem(), temp.File(to)))->tensors().size());
  }
}

TEST_CASE("a component's configuration gets quantization_config and nothing else") {
  const TempDir temp;
  Convert(temp);
  Export(temp, "bnb", "bnb");
  Json config = ConfigIn(temp, "bnb");
  CHECK(config["quantization_config"]["llm_int8_skip_modules"].is_null());
  CHECK(config["quantization_config"]["quant_method"] == "bitsandbytes");
  config.erase("quantization_config");
  CHECK(config == test::Must(ParseJson(kConfig, "", 16)));
  // "dtype" would be an unknown argument of the class.
  Export(temp, "safetensors", "plain");
  CHECK(test::ReadBytes(temp.File("plain/config.json")) == kConfig);
}

TEST_CASE("a component lists what diffusers would replace by itself, under the name that it has there") {
  const TempDir temp;
  Convert(temp, {{false, "embedder"}, {false, "query"}});
  Export(temp, "bnb", "bnb");
  CHECK(ConfigIn(temp, "bnb")["quantization_config"]["llm_int8_skip_modules"] ==
        Json({"attentions.0.to_q", "context_embedder", "x_embedder"}));
}

TEST_CASE("a kept module whose name would spare quantized ones as well is refused") {
  const TempDir temp;
  Convert(temp, {{false, "^proj_out"}});
  const auto status = ExportModel(PosixFileSystem(), temp.File("m.q4"), temp.File("out"), {}).status();
  CHECK(IssueNumberOf(status) == kSkipCatches.number);
  CHECK_FALSE(std::filesystem::exists(temp.File("out")));
}

TEST_CASE("parts of a quantized weight have the name that diffusers gives the layer") {
  const TempDir temp;
  Convert(temp);
  Export(temp, "bnb", "bnb");
  const auto exported = test::Must(OpenCheckpoint(PosixFileSystem(), temp.File("bnb")));
  CHECK(exported->Find("attentions.0.to_q.weight.absmax") != nullptr);
  CHECK(exported->Find("attentions.0.to_q.bias") != nullptr);
  CHECK(exported->Find("attentions.0.query.weight") == nullptr);
  // The dequantized checkpoint is the source's.
  Export(temp, "safetensors", "plain");
  CHECK(test::Must(OpenCheckpoint(PosixFileSystem(), temp.File("plain")))->Find("attentions.0.query.weight") !=
        nullptr);
}

}  // namespace
}  // namespace q4
