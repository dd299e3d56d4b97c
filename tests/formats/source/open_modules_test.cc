// OpenCheckpoint() of a model whose modules lie in folders of their own.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::FaultyFileSystem;
using test::Must;
using test::SafetensorsBuilder;
using test::TempDir;
using Names = std::vector<std::string>;

// Bytes that tell where a tensor comes from.
std::string OneTensor(const std::string& name, const std::string& bytes) {
  return SafetensorsBuilder().Add(name, "U8", {bytes.size()}, bytes).Build();
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path) {
  return OpenCheckpoint(PosixFileSystem(), path);
}

int IssueOf(const std::string& path) { return IssueNumberOf(Open(path).status()); }

Names TensorsOf(const Checkpoint& checkpoint) {
  Names names;
  for (const SourceTensor& tensor : checkpoint.tensors()) names.push_back(tensor.name);
  return names;
}

Names FilesOf(const Checkpoint& checkpoint) {
  Names names;
  for (const CheckpointFile& file : checkpoint.files()) names.push_back(file.name);
  return names;
}

std::string BytesOf(const Checkpoint& checkpoint, std::string_view name) {
  const SourceTensor* tensor = checkpoint.Find(name);
  REQUIRE(tensor != nullptr);
  std::vector<std::uint8_t> bytes(tensor->bytes);
  REQUIRE(checkpoint.Read(*tensor, 0, bytes).ok());
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("weights of module folders are tensors of the checkpoint, named by their folder") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"1_Pooling"},{"path":"2_Dense"},{"path":"3_Normalize"}])");
  dir.Write("config.json", R"({"model_type":"x"})");
  dir.Write("model.safetensors", SafetensorsBuilder().Add("b", "U8", {1}, "b").Add("a", "U8", {1}, "a").Build());
  dir.Write("1_Pooling/config.json", "{}");
  dir.Write("2_Dense/config.json", R"({"in_features":1})");
  dir.Write("2_Dense/model.safetensors", OneTensor("linear.weight", "dense"));
  dir.Write("2_Dense_256/model.safetensors", OneTensor("linear.weight", "not listed"));
  // Any name of the model is as good as another.
  for (const char* path : {"", "/model.safetensors", "/modules.json"}) {
    INFO(path);
    const auto checkpoint = Must(Open(dir.path() + path));
    CHECK(checkpoint->main_file().path == dir.path() + "/model.safetensors");
    CHECK(checkpoint->format() == "safetensors");
    CHECK(checkpoint->module_folders() == Names{"2_Dense"});
    CHECK(FilesOf(*checkpoint) == Names{"2_Dense/model.safetensors", "model.safetensors"});
    CHECK(TensorsOf(*checkpoint) == Names{"2_Dense/linear.weight", "b", "a"});
    CHECK(BytesOf(*checkpoint, "2_Dense/linear.weight") == "dense");
    CHECK(BytesOf(*checkpoint, "b") == "b");
    const ModelConfigs configs = Must(checkpoint->Configs(PosixFileSystem()));
    CHECK(configs.Of("b") == R"({"model_type":"x"})");
    CHECK(configs.Of("2_Dense/linear.weight") == R"({"in_features":1})");
  }
  // The folder alone is a checkpoint as any other.
  CHECK(TensorsOf(*Must(Open(dir.File("2_Dense")))) == Names{"linear.weight"});
}

TEST_CASE("a model may have all its weights in module folders") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"1_Dense"}])");
  dir.Write("router_config.json", R"({"types":{"query_0":"t","document_0":"t"},"structure":{}})");
  CHECK(IssueOf(dir.path()) == kNoCheckpointFound.number);
  dir.Write("1_Dense/config.json", "{}");
  CHECK(IssueOf(dir.path()) == kNoCheckpointFound.number);
  dir.Write("query_0/model.safetensors", OneTensor("w", "q"));
  dir.Write("document_0/config.json", R"({"model_type":"x"})");
  dir.Write("document_0/d-1.safetensors", OneTensor("w", "d"));
  dir.Write("document_0/d-2.safetensors", OneTensor("v", "v"));
  dir.Write("document_0/model.safetensors.index.json",
            R"({"weight_map":{"w":"d-1.safetensors","v":"d-2.safetensors"}})");
  for (const char* path : {"", "/modules.json"}) {
    const auto checkpoint = Must(Open(dir.path() + path));
    CHECK(checkpoint->main_file().path == dir.path() + "/modules.json");
    CHECK(checkpoint->format() == "safetensors-sharded");
    CHECK(FilesOf(*checkpoint) ==
          Names{"document_0/d-1.safetensors", "document_0/d-2.safetensors", "query_0/model.safetensors"});
    CHECK(TensorsOf(*checkpoint) == Names{"document_0/w", "document_0/v", "query_0/w"});
    CHECK(BytesOf(*checkpoint, "query_0/w") == "q");
    CHECK(BytesOf(*checkpoint, "document_0/v") == "v");
    const ModelConfigs configs = Must(checkpoint->Configs(PosixFileSystem()));
    CHECK(configs.root.empty());
    CHECK(configs.Of("document_0/v") == R"({"model_type":"x"})");
    CHECK(configs.Of("query_0/w").empty());
    // The list is what the folders are found by, so it travels.
    CHECK(checkpoint->companions().back().name == "router_config.json");
    CHECK(std::any_of(checkpoint->companions().begin(), checkpoint->companions().end(),
                      [](const CompanionFile& file) { return file.name == "modules.json"; }));
  }
}

TEST_CASE("a module whose weights q4 does not read is refused, with the way out") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"2_Dense"}])");
  dir.Write("model.safetensors", OneTensor("w", "w"));
  dir.Write("2_Dense/dense.pt", "x");
  const absl::Status status = Open(dir.path()).status();
  CHECK(IssueNumberOf(status) == kUnsupportedFormat.number);
  CHECK(MessageOf(status).find("2_Dense") != std::string::npos);
  CHECK(MessageOf(status).find("save_pretrained") != std::string::npos);
  // Beside weights that are read it is a second copy.
  dir.Write("2_Dense/model.safetensors", OneTensor("w", "w"));
  CHECK(Open(dir.path()).ok());
  // What is wrong with a module's weights is as wrong as in the model's own.
  dir.Write("2_Dense/model.safetensors", std::string("cut\0", 4));
  CHECK(IssueOf(dir.path()) == kStHeaderTooSmall.number);
  std::filesystem::remove(dir.File("2_Dense/model.safetensors"));
  dir.Write("2_Dense/model.safetensors.index.json", R"({"weight_map":{"w":"../model.safetensors"}})");
  CHECK(IssueOf(dir.path()) == kIndexShardName.number);
}

TEST_CASE("a tensor must not seem to lie in a module folder that it does not lie in") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"2_Dense"},{"path":"0_Router"},{"path":"0_Router/q"}])");
  dir.Write("2_Dense/config.json", "{}");
  dir.Write("0_Router/q/config.json", "{}");
  dir.Write("model.safetensors", OneTensor("2_Dense/linear.weight", "w"));
  CHECK(IssueOf(dir.path()) == kModuleNameClash.number);
  // With a folder that is not listed, it is a name as any other.
  dir.Write("model.safetensors", OneTensor("3_Dense/linear.weight", "w"));
  CHECK(Open(dir.path()).ok());
  dir.Write("0_Router/model.safetensors", OneTensor("q/w", "w"));
  CHECK(IssueOf(dir.path()) == kModuleNameClash.number);
}

TEST_CASE("names are limited with their folder, and links of weights are refused") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"m"}])");
  dir.Write("model.safetensors", OneTensor("w", "w"));
  dir.Write("m/model.safetensors", OneTensor(std::string(limits::kTensorNameBytes - 2, 'n'), "w"));
  CHECK(Open(dir.path()).ok());
  dir.Write("m/model.safetensors", OneTensor(std::string(limits::kTensorNameBytes - 1, 'n'), "w"));
  CHECK(IssueOf(dir.path()) == kTensorName.number);
  std::filesystem::remove(dir.File("m/model.safetensors"));
  std::filesystem::create_symlink(dir.File("model.safetensors"), dir.File("m/model.safetensors"));
  CHECK(IssueOf(dir.path()) == kSymbolicLink.number);
  CHECK(OpenCheckpoint(PosixFileSystem(), dir.path(), {.follow_symlinks = true}).ok());
}

TEST_CASE("a lone file of another name brings no module folders unless it is a model's") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"m"}])");
  dir.Write("m/model.safetensors", OneTensor("w", "w"));
  const std::string path = dir.Write("download.safetensors", OneTensor("w", "w"));
  CHECK(TensorsOf(*Must(Open(path))) == Names{"w"});
  dir.Write("config.json", "{}");
  CHECK(TensorsOf(*Must(Open(path))) == Names{"w", "m/w"});
}

TEST_CASE("whichever call fails while modules are opened, its error comes through") {
  const TempDir dir;
  dir.Write("modules.json", R"([{"path":""},{"path":"m"}])");
  dir.Write("router_config.json", R"({"types":{"q":"t"},"structure":{}})");
  dir.Write("m/model.safetensors", OneTensor("w", "w"));
  dir.Write("q/config.json", "{}");
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    FaultyFileSystem fs(calls);
    const absl::Status status = OpenCheckpoint(fs, dir.path()).status();
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(ExitCodeOf(status) == (failed ? ExitCode::kIo : ExitCode::kOk));
  }
  CHECK(calls > 20);
}

}  // namespace
}  // namespace q4
