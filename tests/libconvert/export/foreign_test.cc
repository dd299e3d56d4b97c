// Containers that hold what no export may pass off as another thing: made here as an older version would have.
#include "libconvert/export/foreign.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/export/export.h"
#include "libconvert/export/export_issues.h"
#include "tests/support/catch.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Bytes;
using test::Q4Builder;
using test::TempDir;

absl::StatusOr<ExportReport> ExportContainer(const TempDir& dir, const Q4Builder& container, const std::string& to) {
  const std::string path = dir.File("m.q4");
  Q4Builder(container).Write(PosixFileSystem(), path);
  ExportOptions options;
  options.to = to;
  return ExportModel(PosixFileSystem(), path, dir.File(to), options);
}

Q4Builder PlainContainer() {
  Q4Builder container;
  container.AddRaw("model.layers.0.mlp.up_proj.weight", DType::kBF16, {8, 8}, Bytes(128));
  return container;
}

TEST_CASE("weights of another quantization are not exported as bitsandbytes, and as they are with a warning") {
  Q4Builder by_tensors = PlainContainer();
  by_tensors.AddRaw("a.qweight", DType::kI32, {1, 8}, Bytes(32));
  by_tensors.AddRaw("a.qzeros", DType::kI32, {1, 1}, Bytes(4));
  by_tensors.AddRaw("a.scales", DType::kF16, {1, 8}, Bytes(16));
  Q4Builder by_config = PlainContainer();
  by_config.AddFile("config.json", R"({"quantization_config": {"quant_method": "fp8"}})");
  Q4Builder by_file = PlainContainer();
  by_file.AddFile("hf_quant_config.json", R"({"quantization": {"quant_algo": "FP8"}})");
  for (const auto& [container, name] : {std::pair{by_tensors, "AWQ"}, {by_config, "FP8"}, {by_file, "ModelOpt"}}) {
    const TempDir dir;
    const auto refused = ExportContainer(dir, container, "bnb");
    CHECK(IssueNumberOf(refused.status()) == kExportForeign.number);
    CHECK(MessageOf(refused.status()).find(name) != std::string::npos);
    CHECK(!std::filesystem::exists(dir.File("bnb")));
    const auto warned = ExportContainer(dir, container, "safetensors");
    REQUIRE(warned.ok());
    REQUIRE(warned->warnings.size() == 1);
    CHECK(warned->warnings[0].find(std::string("quantized before, by ") + name) != std::string::npos);
  }
}

TEST_CASE("what came from GGUF is not exported as bitsandbytes, and as it is with a warning") {
  for (const std::string format : {"gguf", "gguf-sharded"}) {
    Q4Builder container;
    container.AddRaw("blk.0.ffn_up.weight", DType::kBF16, {8, 8}, Bytes(128));
    const std::size_t at = container.provenance.find("safetensors");
    container.provenance.replace(at, std::string("safetensors").size(), format);
    const TempDir dir;
    const auto refused = ExportContainer(dir, container, "bnb");
    CHECK(IssueNumberOf(refused.status()) == kExportGguf.number);
    CHECK(!std::filesystem::exists(dir.File("bnb")));
    const auto warned = ExportContainer(dir, container, "safetensors");
    REQUIRE(warned.ok());
    REQUIRE(warned->warnings.size() == 1);
    CHECK(warned->warnings[0].find("llama.cpp") != std::string::npos);
  }
}

TEST_CASE("a configuration that loaders ignore is no reason to refuse") {
  Q4Builder container = PlainContainer();
  container.AddFile("config.json", R"({"quantization_config": {"quant_method": "frobnicate"}})");
  const TempDir dir;
  CHECK(ExportContainer(dir, container, "bnb").ok());
}

TEST_CASE("names that a wrapper changed are exported with a warning") {
  for (const std::string prefix : {"_orig_mod.", "module.", "base_model.model."}) {
    Q4Builder container;
    container.AddRaw(prefix + "model.layers.0.mlp.up_proj.weight", DType::kBF16, {8, 8}, Bytes(128));
    for (const std::string to : {"bnb", "safetensors"}) {
      const TempDir dir;
      const auto report = ExportContainer(dir, container, to);
      REQUIRE(report.ok());
      const auto said = [&](const std::string& warning) { return warning.find(prefix) != std::string::npos; };
      CHECK(std::count_if(report->warnings.begin(), report->warnings.end(), said) == 1);
    }
  }
}

}  // namespace
}  // namespace q4
