// What becomes of the texts beside weights of 8-bit floats, and of folders. Tensors: tests/formats/logical/fp8_test.cc.
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

const std::string kOneAsF32("\0\0\x80\x3f", 4);

std::string WithScale(const std::string& scale) {
  return test::SafetensorsBuilder().Add("a.weight", "F8_E4M3", {2, 2}, "8888").Add(scale, "F32", {}, kOneAsF32).Build();
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolder(const test::TempDir& dir) {
  return OpenCheckpoint(PosixFileSystem(), dir.path());
}

std::string CarriedText(const Checkpoint& checkpoint, std::string_view name) {
  for (const CompanionFile& companion : checkpoint.companions()) {
    if (companion.name != name) continue;
    const auto file = OpenCarried(PosixFileSystem(), companion);
    REQUIRE(file.ok());
    REQUIRE((*file)->size() == companion.size);
    std::vector<std::uint8_t> bytes(companion.size);
    REQUIRE((*file)->ReadAt(0, bytes).ok());
    REQUIRE((*file)->CheckUnchanged().ok());
    return {bytes.begin(), bytes.end()};
  }
  return "not there";
}

bool IsLeftOut(const Checkpoint& checkpoint, std::string_view name) {
  for (const LeftOutFile& file : checkpoint.left_out()) {
    if (file.name == name) return true;
  }
  return false;
}

TEST_CASE("sections that describe 8-bit floats leave every text that has one, and nothing else leaves") {
  const test::TempDir dir;
  dir.Write("model.safetensors", WithScale("a.qscale_weight"));
  dir.Write("config.json", R"({"x": 1e-05, "text_config": {"y": 1, "quantization_config": {"quant_method": "fp8"}}})");
  dir.Write("params.json", R"({"dim": 2, "quantization": {"qformat_weight": "fp8_e4m3"}})");
  const auto opened = OpenFolder(dir);
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  CHECK_FALSE(checkpoint.foreign());
  CHECK(checkpoint.Find("a.weight")->dtype == DType::kBF16);
  CHECK(CarriedText(checkpoint, "config.json") == R"({"x": 1e-05, "text_config": {"y": 1}})");
  CHECK(CarriedText(checkpoint, "params.json") == R"({"dim": 2})");
  CHECK(IsLeftOut(checkpoint, "config.json: text_config"));
  CHECK(IsLeftOut(checkpoint, "params.json: quantization"));
}

TEST_CASE("what is wrong with weights of 8-bit floats is found in every folder, and in its section") {
  const std::string list =
      R"([{"idx": 0, "name": "0", "path": "1_Dense", "type": "sentence_transformers.models.Dense"}])";
  const std::string good = WithScale("a.weight_scale");
  const std::string orphan = test::SafetensorsBuilder()
                                 .Add("a.weight", "F8_E4M3", {2, 2}, "8888")
                                 .Add("a.weight_scale", "F32", {}, kOneAsF32)
                                 .Add("b.weight_scale", "F32", {}, kOneAsF32)
                                 .Build();
  const std::string bad = R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 1]}})";
  const auto f4 = [](bool is_whole) {
    test::SafetensorsBuilder builder;
    builder.Add("a.weight", "U8", {2, 16}, std::string(32, 'w')).Add("a.weight_scale", "F8_E4M3", {2, 2}, "8888");
    if (is_whole) builder.Add("a.weight_scale_2", "F32", {}, kOneAsF32);
    return builder.Build();
  };
  const std::string rotated =
      R"({"quantization_config": {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"a": {}}}}})";
  struct Fault {
    int issue;
    std::string own_weights, own_config, weights, config;  // of the model and of a module folder; "": no such file
  };
  for (const Fault& fault : {Fault{0, good, "{}", "", ""},
                             Fault{0, good, "{}", good, "{}"},
                             {3722, orphan, "{}", "", ""},
                             {3720, good, bad, "", ""},
                             {3722, good, "{}", orphan, "{}"},
                             {3720, good, "{}", good, bad},
                             Fault{0, f4(true), "{}", "", ""},
                             {3810, f4(false), "{}", "", ""},
                             {3810, good, "{}", f4(false), "{}"},
                             {5811, f4(true), rotated, "", ""}}) {
    const test::TempDir dir;
    dir.Write("model.safetensors", fault.own_weights);
    dir.Write("config.json", fault.own_config);
    if (!fault.weights.empty()) {
      dir.Write("modules.json", list);
      dir.Write("1_Dense/model.safetensors", fault.weights);
      dir.Write("1_Dense/config.json", fault.config);
    }
    const auto opened = OpenFolder(dir);
    INFO(MessageOf(opened.status()));
    CHECK(IssueNumberOf(opened.status()) == fault.issue);
  }
}

TEST_CASE("texts of a model that is not read so stay as they are") {
  const test::TempDir dir;
  const std::string config = R"({"quantization_config": {"quant_method": "quark"}})";
  const std::string params = R"({"quantization": {"bits": 7}})";
  dir.Write("model.safetensors", WithScale("a.weight_scale"));
  dir.Write("config.json", config);
  dir.Write("params.json", params);
  const auto opened = OpenFolder(dir);
  REQUIRE(opened.ok());
  REQUIRE((*opened)->foreign());
  CHECK((*opened)->foreign()->name == "Quark");
  CHECK((*opened)->Find("a.weight")->dtype == DType::kF8E4M3);
  CHECK(CarriedText(**opened, "config.json") == config);
  // And of one that is, those that describe something else.
  dir.Write("config.json", R"({"quantization_config": {"quant_method": "frobnicate"}})");
  const auto other = OpenFolder(dir);
  REQUIRE(other.ok());
  CHECK_FALSE((*other)->foreign());
  CHECK(CarriedText(**other, "config.json") == R"({"quantization_config": {"quant_method": "frobnicate"}})");
  CHECK(CarriedText(**other, "params.json") == params);
}

TEST_CASE("a companion that changes under the text that was made of it is noticed") {
  const test::TempDir dir;
  dir.Write("model.safetensors", WithScale("a.weight_scale_inv"));
  dir.Write("config.json", R"({"quantization_config": {"quant_method": "fp8"}, "a": 1})");
  const auto opened = OpenFolder(dir);
  REQUIRE(opened.ok());
  REQUIRE((*opened)->companions().size() == 1);
  const CompanionFile& companion = (*opened)->companions()[0];
  const auto file = OpenCarried(PosixFileSystem(), companion);
  REQUIRE(file.ok());
  CHECK((*file)->version() == companion.version);
  dir.Write("config.json", R"({"quantization_config": {"quant_method": "fp8"}, "a": 22})");
  CHECK_FALSE((*file)->CheckUnchanged().ok());
  std::vector<std::uint8_t> beyond(2);
  CHECK_FALSE((*file)->ReadAt((*file)->size() - 1, beyond).ok());
}

TEST_CASE("each module folder is read by its own configuration, and tensors stay in the order of the files") {
  const test::TempDir dir;
  dir.Write("modules.json", R"([{"path": "0_T"}, {"path": "1_D"}, {"path": "2_P"}])");
  dir.Write("0_T/model.safetensors", WithScale("a.weight_scale_inv"));
  dir.Write("0_T/config.json", R"({"dtype": "float16", "quantization_config": {"quant_method": "fp8"}})");
  dir.Write("1_D/model.safetensors", WithScale("a.scale_weight"));
  dir.Write("2_P/model.safetensors", test::SafetensorsBuilder().Add("b", "F32", {1}, "abcd").Build());
  const auto opened = OpenFolder(dir);
  INFO(opened.status());
  REQUIRE(opened.ok());
  const std::vector<SourceTensor>& tensors = (*opened)->tensors();
  REQUIRE(tensors.size() == 3);
  CHECK(tensors[0].name == "0_T/a.weight");
  CHECK(tensors[0].dtype == DType::kF16);
  CHECK(tensors[0].scaled->scale_name == "0_T/a.weight_scale_inv");
  CHECK(tensors[1].name == "1_D/a.weight");
  CHECK(tensors[1].dtype == DType::kBF16);
  CHECK(tensors[2].dtype == DType::kF32);
  CHECK(CarriedText(**opened, "0_T/config.json") == R"({"dtype": "float16"})");
  dir.Write("1_D/config.json", R"({"quantization_config": {"quant_method": "gptq"}})");
  const auto foreign = OpenFolder(dir);
  REQUIRE(foreign.ok());
  REQUIRE((*foreign)->foreign());
  CHECK((*foreign)->foreign()->name == "GPTQ");
}

}  // namespace
}  // namespace q4
