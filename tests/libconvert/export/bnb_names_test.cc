// Names of tensors that a bitsandbytes checkpoint would give a second meaning: entries of llm_int8_skip_modules are
// regular expressions to transformers, and what begins like a 4-bit weight is a part of it.
#include <algorithm>
#include <filesystem>
#include <string>

#include "formats/base/json_value.h"
#include "formats/base/status.h"
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

// The export of a container with kLinear in 4 bits and a kept matrix called `kept`, to be looked at in `dir`.
absl::Status ExportBeside(const std::string& kept, const TempDir& dir, const std::string& to = "bnb") {
  Q4Builder container;
  container.AddQuantized(kLinear, DType::kBF16, {8, 64}, Bytes(1024, 1), Q4Scheme::kNf4, 64, false);
  container.AddRaw(kept, DType::kBF16, {8, 64}, Bytes(1024, 1));
  container.AddFile("config.json", R"({"model_type": "llama"})");
  container.Write(PosixFileSystem(), dir.File("m.q4"));
  ExportOptions options;
  options.to = to;
  return ExportModel(PosixFileSystem(), dir.File("m.q4"), dir.File("out"), options).status();
}

TEST_CASE("a kept module whose name is a regular expression is refused, with the way out") {
  for (const std::string module : {".*", "(((", "(x+x+)+y", "model.layers.0.mlp.down|up", "a[0]", "a$", "^model",
                                   "q\\d", "x?", "x{2}", "a*b", "model.layers.0.mlp.x]"}) {
    INFO(module);
    const TempDir dir;
    const absl::Status status = ExportBeside(module + ".weight", dir);
    CHECK(IssueNumberOf(status) == kExportSkipName.number);
    CHECK(MessageOf(status).find("--to safetensors") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(dir.File("out")));
    CHECK(ExportBeside(module + ".weight", dir, "safetensors").ok());
  }
}

TEST_CASE("a kept module of any other name is listed as it is") {
  for (const std::string module :
       {"model.layers.0.mlp.down_proj", "proj-2", "caf\xC3\xA9", "a b", "x/y", "model.layers.10.q:k"}) {
    INFO(module);
    const TempDir dir;
    CHECK(ExportBeside(module + ".weight", dir).ok());
    const Json config = test::Must(ParseJson(test::ReadBytes(dir.File("out/config.json")), "config.json", 8));
    const Json& skip = config.at("quantization_config").at("llm_int8_skip_modules");
    CHECK(std::find(skip.begin(), skip.end(), module) != skip.end());
    CHECK(std::find(skip.begin(), skip.end(), "") == skip.end());  // which every name ends with
  }
}

TEST_CASE("the list's own expressions are none of a name's") {
  // "up_proj" ends the name of the quantized module, so that it is listed as an expression.
  const TempDir dir;
  CHECK(ExportBeside("up_proj.weight", dir).ok());
  CHECK(test::ReadBytes(dir.File("out/config.json")).find("\"^up_proj$\"") != std::string::npos);
  // A module that is called so is refused.
  const TempDir other;
  CHECK(IssueNumberOf(ExportBeside("^model$.weight", other)) == kExportSkipName.number);
}

TEST_CASE("a tensor that would pass for a part of a 4-bit weight is refused") {
  for (const std::string part : {".quant_state.bitsandbytes__fp4", ".quant_state.bitsandbytes__nf4", ".absmax",
                                 ".nested_absmax", ".quant_map", ".anything", ".quant_state", "..", ".weight"}) {
    INFO(part);
    const TempDir dir;
    const absl::Status status = ExportBeside(kLinear + part, dir);
    const bool same_name = part == ".absmax" || part == ".quant_map" || part == ".quant_state.bitsandbytes__nf4";
    CHECK(IssueNumberOf(status) == (same_name ? kExportNameCollision : kExportPartOfWeight).number);
    CHECK(MessageOf(status).find(kLinear) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(dir.File("out")));
    CHECK(ExportBeside(kLinear + part, dir, "safetensors").ok());
  }
  // What merely begins with the same letters is another tensor.
  for (const std::string other : {"model.layers.0.mlp.up_proj.weight_scale", "model.layers.0.mlp.up_proj.bias",
                                  "model.layers.0.mlp.up_proj.weights"}) {
    const TempDir dir;
    CHECK(IssueNumberOf(ExportBeside(other, dir)) != kExportPartOfWeight.number);
  }
}

}  // namespace
}  // namespace q4
