// Exports of a model whose modules lie in folders of their own.
#include "libconvert/export/model_part.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/export/export.h"
#include "libconvert/model/model_configs.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/must.h"
#include "tests/support/provenance.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::Must;
using test::MustConvert;
using test::ReadBytes;
using test::SafetensorsBuilder;
using test::TempDir;

const std::string kBert = R"({"architectures":["BertModel"],"model_type":"bert"})";

std::string Linears(const std::vector<std::string>& names) {
  SafetensorsBuilder tensors;
  std::uint32_t seed = 1;
  for (const std::string& name : names) {
    tensors.Add(name, "F32", {32, 64}, test::Weights(DType::kF32, 32 * 64, seed++));
  }
  return tensors.Build();
}

// Two transformers models below a Router, a Dense that belongs to neither, and nothing at the top.
std::string WriteRouter(const TempDir& dir) {
  dir.Write("m/modules.json", R"([{"path":""},{"path":"1_Dense"}])");
  dir.Write("m/router_config.json", R"({"types":{"document_0":"t","query_0":"t"},"structure":{}})");
  for (const char* folder : {"document_0", "query_0"}) {
    dir.Write(std::string("m/") + folder + "/config.json", kBert);
    dir.Write(std::string("m/") + folder + "/model.safetensors",
              Linears({"encoder.a.weight", "encoder.b.weight", "embeddings.word_embeddings.weight"}));
  }
  dir.Write("m/1_Dense/config.json", R"({"in_features":64})");
  dir.Write("m/1_Dense/model.safetensors", Linears({"linear.weight"}));
  return dir.File("m");
}

std::set<std::string> FilesIn(const std::string& directory) {
  std::set<std::string> files;
  for (const auto& entry : stdfs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.insert(stdfs::relative(entry.path(), directory).string());
  }
  files.erase("q4_export.json");  // the record of an export, which no model has
  return files;
}

std::set<std::string> TensorsIn(const std::string& path) {
  std::set<std::string> names;
  const std::unique_ptr<Checkpoint> checkpoint = Must(OpenCheckpoint(PosixFileSystem(), path));
  for (const SourceTensor& tensor : checkpoint->tensors()) names.insert(tensor.name);
  return names;
}

ExportReport Export(const TempDir& dir, const std::string& output, const ExportOptions& options) {
  return Must(ExportModel(PosixFileSystem(), dir.File("m.q4"), dir.File(output), options));
}

bool Warns(const ExportReport& report, const std::string& text) {
  return std::any_of(report.warnings.begin(), report.warnings.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

TEST_CASE("tensors of module folders are exported to where they came from, and each model to its own configuration") {
  const TempDir dir;
  ConvertOptions options;
  options.policy.patterns = {{.include = false, .regex = "^document_0/encoder.b"}};
  MustConvert(WriteRouter(dir), options, dir.File("m.q4"));
  const ExportReport report = Export(dir, "bnb", {});
  CHECK(FilesIn(dir.File("bnb")) == FilesIn(dir.File("m")));
  CHECK(TensorsIn(dir.File("bnb/1_Dense")) == std::set<std::string>{"linear.weight"});
  CHECK(TensorsIn(dir.File("bnb/query_0")).contains("encoder.a.weight.absmax"));
  // Copied byte for byte, as nobody had to say anything about it.
  CHECK(ReadBytes(dir.File("bnb/1_Dense/config.json")) == R"({"in_features":64})");
  const auto skip_of = [&](const std::string& folder) {
    const Json config = Must(ParseJson(ReadBytes(dir.File("bnb/" + folder + "/config.json")), "", 8));
    return config.at("quantization_config").at("llm_int8_skip_modules");
  };
  // What is kept beyond the defaults is named in its own folder only, and by its name there.
  CHECK(skip_of("query_0").is_null());
  const std::string skipped = skip_of("document_0").dump();
  CHECK(skipped.find("encoder.b") != std::string::npos);
  CHECK(skipped.find('/') == std::string::npos);
  CHECK(report.quantized_tensors == 3);
  CHECK(report.kept_tensors == 4);
  CHECK_FALSE(Warns(report, "no config.json"));

  ExportOptions plain;
  plain.to = "safetensors";
  Export(dir, "plain", plain);
  CHECK(FilesIn(dir.File("plain")) == FilesIn(dir.File("m")));
  CHECK(TensorsIn(dir.File("plain")) == TensorsIn(dir.File("m")));
  // The elements; headers differ in their metadata.
  constexpr std::size_t kBytes = 32 * 64 * 4;
  const std::string written = ReadBytes(dir.File("plain/1_Dense/model.safetensors"));
  const std::string original = ReadBytes(dir.File("m/1_Dense/model.safetensors"));
  REQUIRE(std::min(written.size(), original.size()) > kBytes);
  CHECK(written.substr(written.size() - kBytes) == original.substr(original.size() - kBytes));
}

TEST_CASE("a module outside the transformers models is kept, and dequantized where it was not") {
  const TempDir dir;
  ConvertOptions options;
  options.policy.patterns = {{.include = true, .regex = "^1_Dense/"}};
  MustConvert(WriteRouter(dir), options, dir.File("m.q4"));
  const ExportReport report = Export(dir, "bnb", {});
  CHECK(report.quantized_tensors == 4);
  CHECK(report.dequantized_tensors == 1);
  CHECK(Warns(report, "1_Dense/linear.weight"));
  CHECK(TensorsIn(dir.File("bnb/1_Dense")) == std::set<std::string>{"linear.weight"});
}

TEST_CASE("each folder has shards and an index of its own") {
  const TempDir dir;
  MustConvert(WriteRouter(dir), {}, dir.File("m.q4"));
  ExportOptions options;
  options.to = "safetensors";
  options.shard_bytes = 2 * 32 * 64 * 4;
  Export(dir, "out", options);
  const std::set<std::string> files = FilesIn(dir.File("out"));
  CHECK(files.contains("query_0/model-00002-of-00002.safetensors"));
  CHECK(files.contains("document_0/model.safetensors.index.json"));
  CHECK(files.contains("1_Dense/model.safetensors"));
  CHECK_FALSE(files.contains("model.safetensors.index.json"));
  const Json index = Must(ParseJson(ReadBytes(dir.File("out/query_0/model.safetensors.index.json")), "", 8));
  CHECK(index.at("metadata").at("total_parameters") == 3 * 32 * 64);
  CHECK(index.at("metadata").at("total_size") == 3 * 32 * 64 * 4);
  CHECK(index.at("weight_map").at("encoder.b.weight") == "model-00002-of-00002.safetensors");
  CHECK(TensorsIn(dir.File("out")) == TensorsIn(dir.File("m")));
  // What an export of it has left may be replaced by another.
  options.force = true;
  Export(dir, "out", options);
}

TEST_CASE("a single file keeps the folders in its names, and says so") {
  const TempDir dir;
  MustConvert(WriteRouter(dir), {}, dir.File("m.q4"));
  ExportOptions options;
  options.to = "safetensors";
  const ExportReport report = Export(dir, "out.safetensors", options);
  CHECK(Warns(report, "single file"));
  CHECK(TensorsIn(dir.File("out.safetensors")) == TensorsIn(dir.File("m")));
}

TEST_CASE("a model of modules that has nothing of transformers is exported without a word of bitsandbytes") {
  const TempDir dir;
  dir.Write("m/modules.json", R"([{"path":""},{"path":"1_Dense"}])");
  dir.Write("m/model.safetensors", Linears({"embedding.weight", "other.weight"}));
  dir.Write("m/1_Dense/model.safetensors", Linears({"linear.weight"}));
  MustConvert(dir.File("m"), {}, dir.File("m.q4"));
  const ExportReport report = Export(dir, "bnb", {});
  CHECK(report.kept_tensors == 3);
  CHECK(Warns(report, "4 bits"));
  CHECK(FilesIn(dir.File("bnb")) == FilesIn(dir.File("m")));
}

TEST_CASE("an export without a weight in 4 bits does not say that it has some") {
  const TempDir dir;
  dir.Write("m/config.json", kBert);
  dir.Write("m/model.safetensors", Linears({"encoder.a.weight", "encoder.b.weight"}));
  ConvertOptions options;
  SECTION("nothing was quantized") {
    options.policy.patterns = {{false, "."}};
    MustConvert(dir.File("m"), options, dir.File("m.q4"));
    const ExportReport report = Export(dir, "bnb", {});
    CHECK(ReadBytes(dir.File("bnb/config.json")) == kBert);
    CHECK(Warns(report, "plain checkpoint"));
    CHECK(report.summary.find("nf4") == std::string::npos);
  }
  SECTION("a subset that has none, of a model that has some") {
    options.policy.patterns = {{false, "encoder.a"}};
    MustConvert(dir.File("m"), options, dir.File("m.q4"));
    ExportOptions subset;
    subset.tensor_pattern = "encoder.a.*";
    const ExportReport report = Export(dir, "bnb", subset);
    CHECK_FALSE(Warns(report, "plain checkpoint"));
    CHECK(ReadBytes(dir.File("bnb/config.json")).find("load_in_4bit") != std::string::npos);
  }
}

TEST_CASE("a provenance cannot lead an export out of its directory") {
  for (const char* name : {"../x/model.safetensors", "/x/model.safetensors", "a/../x/model.safetensors",
                           "./x/model.safetensors", ".git/model.safetensors", "x//y/model.safetensors"}) {
    INFO(name);
    const TempDir dir;
    test::Q4Builder builder;
    Json file;
    file["name"] = name;
    file["size"] = 1;
    file["xxh3"] = "0123456789abcdef";
    builder.provenance = test::ProvenanceOf(Json::object(), Json::array({file}));
    builder.Write(PosixFileSystem(), dir.File("m.q4"));
    const auto model = Must(Q4Model::Open(PosixFileSystem(), dir.File("m.q4")));
    CHECK(IssueNumberOf(ReadModelConfigs(*model).status()) == kQ4ProvenanceForm.number);
  }
}

}  // namespace
}  // namespace q4
