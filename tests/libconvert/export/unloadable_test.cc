// 4-bit weights of modules that are no linear layers: refused, dequantized or kept. tests/python/foreign_check.py loads
// them in transformers.
#include "libconvert/export/unloadable.h"

#include <algorithm>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "libconvert/export/export.h"
#include "libconvert/export/export_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Bytes;
using test::Q4Builder;
using test::TempDir;

constexpr char kLinear[] = "model.layers.0.mlp.up_proj.weight";

// A container with one linear layer and `name`, both in 4 bits.
class TwoWeights {
 public:
  TwoWeights(const std::string& name, const Shape& shape, const std::string& config = R"({"model_type": "llama"})")
      : name_(name) {
    std::uint64_t elems = 1;
    for (const std::uint64_t d : shape) elems *= d;
    container_.AddQuantized(kLinear, DType::kBF16, {8, 64}, Bytes(1024, 1), Q4Scheme::kNf4, 64, false);
    container_.AddQuantized(name, DType::kBF16, shape, Bytes(2 * elems, 1), Q4Scheme::kNf4, 64, false);
    container_.AddFile("config.json", config);
    container_.Write(PosixFileSystem(), dir_.File("m.q4"));
  }

  absl::StatusOr<ExportReport> Export(ExpertWeights unloadable) const {
    ExportOptions options;
    options.unloadable = unloadable;
    return ExportModel(PosixFileSystem(), dir_.File("m.q4"), dir_.File(OutputName(unloadable)), options);
  }

  // Whether an export holds the tensor as elements, or as codes and scales.
  bool HoldsElements(ExpertWeights unloadable, const std::string& name) const {
    const auto checkpoint = test::Must(OpenCheckpoint(PosixFileSystem(), dir_.File(OutputName(unloadable))));
    return checkpoint->Find(name) != nullptr && checkpoint->Find(name)->dtype == DType::kBF16 &&
           checkpoint->Find(name + ".absmax") == nullptr;
  }

  Json Skipped(ExpertWeights unloadable) const {
    const std::string text = test::ReadBytes(dir_.File(OutputName(unloadable)) + "/config.json");
    return test::Must(ParseJson(text, "config.json", 8)).at("quantization_config").at("llm_int8_skip_modules");
  }

  const std::string& name() const { return name_; }

 private:
  static std::string OutputName(ExpertWeights unloadable) {
    return "out" + std::to_string(static_cast<int>(unloadable));
  }

  TempDir dir_;
  Q4Builder container_;
  std::string name_;
};

TEST_CASE("a 4-bit weight that is no linear layer's is exported on purpose only") {
  for (const auto& [name, shape] : {std::pair<std::string, Shape>{"model.embed_tokens.weight", {8, 64}},
                                    {"model.norm.weight", {64}},
                                    {"visual.patch_embed.proj.weight", {8, 2, 4, 8}},
                                    {"model.layers.0.self_attn.q_proj.bias", {64}}}) {
    INFO(name);
    const TwoWeights model(name, shape);
    const auto refused = model.Export(ExpertWeights::kError);
    CHECK(IssueNumberOf(refused.status()) == kExportUnloadable.number);
    CHECK(MessageOf(refused.status()).find(name) != std::string::npos);

    const auto dequantized = model.Export(ExpertWeights::kDequantize);
    REQUIRE(dequantized.ok());
    CHECK(dequantized->dequantized_tensors == 1);
    CHECK(dequantized->quantized_tensors == 1);
    CHECK(model.HoldsElements(ExpertWeights::kDequantize, name));
    CHECK(!model.HoldsElements(ExpertWeights::kDequantize, kLinear));
    CHECK(model.Skipped(ExpertWeights::kDequantize).is_null());
    const auto says = [](const std::string& warning) { return warning.find("no linear layer's") != std::string::npos; };
    CHECK(std::none_of(dequantized->warnings.begin(), dequantized->warnings.end(), says));

    const auto kept = model.Export(ExpertWeights::kKeep4bit);
    REQUIRE(kept.ok());
    CHECK(kept->quantized_tensors == 2);
    CHECK(!model.HoldsElements(ExpertWeights::kKeep4bit, name));
    CHECK(std::count_if(kept->warnings.begin(), kept->warnings.end(), says) == 1);
  }
}

TEST_CASE("heads are linear layers; a Conv1D weight can be dequantized only, and is then skipped") {
  CHECK(TwoWeights("lm_head.weight", {8, 64}).Export(ExpertWeights::kError).ok());
  const TwoWeights gpt2("transformer.h.0.attn.c_attn.weight", {64, 64}, R"({"model_type": "gpt2"})");
  CHECK(IssueNumberOf(gpt2.Export(ExpertWeights::kError).status()) == kExportTransposed.number);
  CHECK(IssueNumberOf(gpt2.Export(ExpertWeights::kKeep4bit).status()) == kExportTransposed.number);
  REQUIRE(gpt2.Export(ExpertWeights::kDequantize).ok());
  CHECK(gpt2.HoldsElements(ExpertWeights::kDequantize, gpt2.name()));
  const Json skipped = gpt2.Skipped(ExpertWeights::kDequantize);
  CHECK(std::find(skipped.begin(), skipped.end(), "transformer.h.0.attn.c_attn") != skipped.end());
}

TEST_CASE("a dequantized export asks nothing") {
  const TempDir dir;
  Q4Builder container;
  container.AddQuantized("model.norm.weight", DType::kBF16, {64}, Bytes(128, 1), Q4Scheme::kNf4, 64, false);
  container.Write(PosixFileSystem(), dir.File("m.q4"));
  ExportOptions options;
  options.to = "safetensors";
  CHECK(ExportModel(PosixFileSystem(), dir.File("m.q4"), dir.File("out"), options).ok());
}

}  // namespace
}  // namespace q4
