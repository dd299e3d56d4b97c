// What --experts makes of routed experts, by the names and shapes of several kinds of models. With the real
// transformers: tests/python/experts_check.py.
#include "libconvert/export/experts.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/source/checkpoint.h"
#include "libconvert/export/export.h"
#include "libconvert/export/export_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::SafetensorsBuilder;
using test::TempDir;

void AddNormal(SafetensorsBuilder* tensors, const std::string& name, const std::vector<std::uint64_t>& shape) {
  std::uint64_t elems = 1;
  for (const std::uint64_t dimension : shape) elems *= dimension;
  const std::vector<float> values = test::NormalValues(elems, static_cast<unsigned>(elems));
  tensors->Add(name, "F32", shape, std::string(test::AsText(values)));
}

// A projection, a shared expert, a norm, and routed experts in the layout of one kind of model.
struct Model {
  std::string type;
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> experts;
};

std::string Convert(const TempDir& temp, const Model& model, const std::vector<PatternRule>& patterns = {}) {
  SafetensorsBuilder tensors;
  AddNormal(&tensors, "model.layers.0.self_attn.q_proj.weight", {64, 64});
  AddNormal(&tensors, "model.layers.0.mlp.shared_expert.up_proj.weight", {64, 64});
  AddNormal(&tensors, "model.norm.weight", {64});
  for (const auto& [name, shape] : model.experts) AddNormal(&tensors, name, shape);
  temp.Write("model/model.safetensors", tensors.Build());
  temp.Write("model/config.json", fmt::format(R"({{"model_type": "{}"}})", model.type));
  ConvertOptions options;
  options.policy.patterns = patterns;
  test::MustConvert(temp.File("model"), options, temp.File("m.q4"));
  return temp.File("m.q4");
}

ExportOptions With(ExpertWeights experts) {
  ExportOptions options;
  options.experts = experts;
  return options;
}

int IssueOf(const TempDir& temp, const ExportOptions& options) {
  return IssueNumberOf(ExportModel(PosixFileSystem(), temp.File("m.q4"), temp.File("out"), options).status());
}

ExportReport Export(const TempDir& temp, const std::string& output, const ExportOptions& options) {
  return test::Must(ExportModel(PosixFileSystem(), temp.File("m.q4"), temp.File(output), options));
}

std::vector<std::uint8_t> BytesOf(const TempDir& temp, const std::string& directory, const std::string& name) {
  const auto checkpoint = test::Must(OpenCheckpoint(PosixFileSystem(), temp.File(directory)));
  const SourceTensor* tensor = checkpoint->Find(name);
  REQUIRE(tensor != nullptr);
  std::vector<std::uint8_t> bytes(tensor->bytes);
  REQUIRE(checkpoint->Read(*tensor, 0, bytes).ok());
  return bytes;
}

bool Has(const TempDir& temp, const std::string& directory, const std::string& name) {
  return test::Must(OpenCheckpoint(PosixFileSystem(), temp.File(directory)))->Find(name) != nullptr;
}

decltype(ExportSetting::value) SettingOf(const ExportReport& report, const std::string& key) {
  for (const ExportSetting& setting : report.settings) {
    if (setting.key == key) return setting.value;
  }
  FAIL("no setting " << key);
  return report.settings.front().value;
}

// Names behind a wrapper have a warning of their own.
bool WarnsOfExperts(const ExportReport& report) {
  return std::any_of(report.warnings.begin(), report.warnings.end(), [](const std::string& warning) {
    return warning.find("cannot load experts in 4 bits") != std::string::npos;
  });
}

const Model kPerExpert[] = {
    {"mixtral",
     {{"model.layers.0.block_sparse_moe.experts.0.w1.weight", {128, 64}},
      {"model.layers.0.block_sparse_moe.experts.1.w1.weight", {128, 64}}}},
    {"deepseek_v3",
     {{"model.layers.0.mlp.experts.0.gate_proj.weight", {128, 64}},
      {"model.layers.0.mlp.experts.0.down_proj.weight", {64, 128}}}},
    {"gpt_oss",
     {{"model.layers.0.mlp.experts.gate_up_proj", {4, 64, 128}},
      {"model.layers.0.mlp.experts.down_proj", {4, 64, 64}}}},
    {"granitemoe",
     {{"model.layers.0.block_sparse_moe.input_linear.weight", {4, 128, 64}},
      {"model.layers.0.block_sparse_moe.output_linear.weight", {4, 64, 64}}}},
    // Names that a wrapper has put something into.
    {"mixtral",
     {{"_orig_mod.model.layers.0.block_sparse_moe.experts.0.w1.weight", {128, 64}},
      {"_orig_mod.model.layers.0.block_sparse_moe.experts.0.w2.weight", {64, 128}}}},
    {"a_kind_of_next_year", {{"blocks.0.ffn.experts.mlp.w1", {4 * 128, 64}}, {"experts.3.up.weight", {128, 64}}}},
};

TEST_CASE("an export with experts in 4 bits is made on purpose only") {
  for (const Model& model : kPerExpert) {
    INFO(model.type);
    const TempDir temp;
    Convert(temp, model);
    CHECK(IssueOf(temp, {}) == kExportExperts.number);
    CHECK(kExportExperts.exit_code == ExitCode::kUnsupported);
    CHECK_FALSE(stdfs::exists(temp.File("out")));
    // A subset without experts has nothing to be decided.
    ExportOptions dense;
    dense.tensor_pattern = "q_proj";
    CHECK(Export(temp, "dense", dense).quantized_tensors == 1);
    // Nor has another kind of export.
    ExportOptions plain;
    plain.to = "safetensors";
    CHECK(Export(temp, "plain", plain).dequantized_tensors == 4);
  }
}

TEST_CASE("dequantized experts are those of the dequantized checkpoint, beside 4-bit layers") {
  for (const Model& model : kPerExpert) {
    INFO(model.type);
    const TempDir temp;
    Convert(temp, model);
    ExportOptions plain;
    plain.to = "safetensors";
    Export(temp, "plain", plain);
    const ExportReport report = Export(temp, "out", With(ExpertWeights::kDequantize));
    CHECK(report.quantized_tensors == 2);  // the projection and the shared expert
    CHECK(report.dequantized_tensors == 2);
    CHECK(report.kept_tensors == 1);
    CHECK_FALSE(WarnsOfExperts(report));
    CHECK(SettingOf(report, "experts") == decltype(ExportSetting::value)("dequantize"));
    CHECK(SettingOf(report, "expert_tensors") == decltype(ExportSetting::value)(std::uint64_t{2}));
    // No module is made for fused experts, so none has to be spared.
    CHECK(std::holds_alternative<std::monostate>(SettingOf(report, "skip_modules")));
    for (const auto& [name, shape] : model.experts) {
      CHECK(BytesOf(temp, "out", name) == BytesOf(temp, "plain", name));
      CHECK_FALSE(Has(temp, "out", name + ".absmax"));
    }
    CHECK(Has(temp, "out", "model.layers.0.self_attn.q_proj.weight.absmax"));
    CHECK(Has(temp, "out", "model.layers.0.mlp.shared_expert.up_proj.weight.absmax"));
    CHECK(ExportReportText(report).find("2 tensors in 4 bits, 2 dequantized, 1 kept") != std::string::npos);
  }
}

TEST_CASE("experts that stay in 4 bits are written as all weights, and warned about") {
  for (const Model& model : kPerExpert) {
    INFO(model.type);
    const TempDir temp;
    Convert(temp, model);
    const ExportReport report = Export(temp, "out", With(ExpertWeights::kKeep4bit));
    CHECK(report.quantized_tensors == 4);
    CHECK(report.dequantized_tensors == 0);
    CHECK(WarnsOfExperts(report));
    CHECK(SettingOf(report, "experts") == decltype(ExportSetting::value)("keep4bit"));
    for (const auto& [name, shape] : model.experts) CHECK(Has(temp, "out", name + ".absmax"));
  }
}

TEST_CASE("experts that are kept, or linear layers of their own, leave nothing to decide") {
  const TempDir temp;
  Model model{"mixtral", {{"model.layers.0.block_sparse_moe.experts.0.w1.weight", {128, 64}}}};
  std::vector<PatternRule> patterns;
  std::uint64_t quantized = 2;
  SECTION("kept by a pattern") { patterns = {{false, "\\.experts\\."}}; }
  SECTION("Switch Transformers") {
    model = {"switch_transformers", {{"encoder.block.1.layer.1.mlp.experts.expert_0.wi.weight", {128, 64}}}};
    quantized = 3;
  }
  SECTION("NLLB-MoE") {
    model = {"nllb-moe", {{"model.decoder.layers.3.ffn.experts.expert_7.fc1.weight", {128, 64}}}};
    quantized = 3;
  }
  Convert(temp, model, patterns);
  const ExportReport report = Export(temp, "out", {});
  CHECK(report.quantized_tensors == quantized);
  CHECK_FALSE(WarnsOfExperts(report));
  CHECK(std::holds_alternative<std::monostate>(SettingOf(report, "experts")));
  CHECK(SettingOf(report, "expert_tensors") == decltype(ExportSetting::value)(std::uint64_t{0}));
}

TEST_CASE("fused experts of a model that transformers then loads one by one are not written by accident") {
  const TempDir temp;
  const Model llama4{"llama4_text", {{"model.layers.0.feed_forward.experts.gate_up_proj", {4, 64, 128}}}};
  std::vector<PatternRule> patterns;
  SECTION("quantized") {}
  SECTION("kept: 16 bits would not load either") { patterns = {{false, "experts"}}; }
  Convert(temp, llama4, patterns);
  CHECK(IssueOf(temp, {}) == kExportFusedExperts.number);
  CHECK(IssueOf(temp, With(ExpertWeights::kDequantize)) == kExportFusedExperts.number);
  CHECK_FALSE(stdfs::exists(temp.File("out")));
  Export(temp, "out", With(ExpertWeights::kKeep4bit));
  CHECK(Has(temp, "out", "model.layers.0.feed_forward.experts.gate_up_proj"));
}

TEST_CASE("a plan says that there will be a choice") {
  const auto noted = [](const Model& model, const std::vector<PatternRule>& patterns) {
    const TempDir temp;
    Convert(temp, model, patterns);
    const auto checkpoint = test::Must(OpenCheckpoint(PosixFileSystem(), temp.File("model")));
    ConvertOptions options;
    options.policy.patterns = patterns;
    const std::string config = test::Must(checkpoint->ConfigJson(PosixFileSystem()));
    std::string text;
    for (const Note& note : test::Must(PlanConversion(*checkpoint, config, options)).notes) text += note.text + "\n";
    return text;
  };
  CHECK(noted(kPerExpert[0], {}).find("2 expert tensors are quantized") != std::string::npos);
  CHECK(noted(kPerExpert[0], {}).find("--experts dequantize") != std::string::npos);
  CHECK(noted(kPerExpert[0], {{false, "experts"}}).find("expert tensor") == std::string::npos);
  CHECK(noted({"llama4", {{"experts.gate_up_proj", {4, 64, 128}}}}, {}).find("--experts keep4bit") !=
        std::string::npos);
  CHECK(noted({"nllb-moe", {{"ffn.experts.expert_7.fc1.weight", {128, 64}}}}, {}).find("expert tensor") ==
        std::string::npos);
}

}  // namespace
}  // namespace q4
