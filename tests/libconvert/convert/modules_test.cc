// A model whose modules lie in folders of their own, converted in every way: in order, side by side, in shards, and
// gone on with.
#include "formats/source/modules.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "fmt/format.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/export/export.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/crash_file_system.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::FileSha256;
using test::Must;
using test::SafetensorsBuilder;
using test::TempDir;

// A transformer at the top, a Dense in one file, a Dense in two shards, and two models below a Router.
std::string WriteModules(const TempDir& dir) {
  dir.Write("m/modules.json", R"([{"path":""},{"path":"1_Dense"},{"path":"2_Dense"},{"path":"3_Router"}])");
  dir.Write("m/3_Router/router_config.json", R"({"types":{"a":"t","b":"t"},"structure":{}})");
  std::uint32_t seed = 1;
  const auto write = [&](const std::string& file, const std::string& tensor) {
    SafetensorsBuilder builder;
    builder.Add(tensor, "BF16", {67, 333}, test::Weights(DType::kBF16, 67 * 333, seed++));
    builder.Add("norm.weight", "F32", {64}, test::Weights(DType::kF32, 64, seed++));
    dir.Write("m/" + file, builder.Build());
  };
  write("model.safetensors", "encoder.layer.0.w.weight");
  dir.Write("m/config.json", R"({"model_type":"bert","architectures":["BertModel"]})");
  write("1_Dense/model.safetensors", "linear.weight");
  dir.Write("m/1_Dense/config.json", R"({"in_features":333})");
  for (const char* part : {"1", "2"}) {
    SafetensorsBuilder builder;
    builder.Add(fmt::format("linear{}.weight", part), "F16", {64, 100}, test::Weights(DType::kF16, 6400, seed++));
    dir.Write(fmt::format("m/2_Dense/model-0000{}-of-00002.safetensors", part), builder.Build());
  }
  dir.Write("m/2_Dense/model.safetensors.index.json",
            R"({"metadata":{},"weight_map":{"linear1.weight":"model-00001-of-00002.safetensors",)"
            R"("linear2.weight":"model-00002-of-00002.safetensors"}})");
  for (const char* inner : {"a", "b"}) {
    write(fmt::format("3_Router/{}/model.safetensors", inner), "encoder.layer.0.w.weight");
    dir.Write(fmt::format("m/3_Router/{}/config.json", inner),
              R"({"model_type":"bert","architectures":["BertModel"]})");
  }
  return dir.File("m");
}

// All files of an export, name and digest.
std::string Listing(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const std::string name = std::filesystem::relative(entry.path(), directory).string();
    // The record of an export names the container that it was made from.
    if (entry.is_regular_file() && name != "q4_export.json") files[name] = FileSha256(entry.path().string());
  }
  std::string text;
  for (const auto& [name, digest] : files) text += name + " " + digest + "\n";
  return text;
}

TEST_CASE("a model of modules gives the same bytes in whatever way it is converted", "[threads]") {
  const TempDir dir;
  const std::string source = WriteModules(dir);
  const auto checkpoint = Must(OpenCheckpoint(PosixFileSystem(), source));
  REQUIRE(checkpoint->tensors().size() == 10);
  ConvertOptions options;
  const ConversionPlan plan = Must(PlanConversion(*checkpoint, Must(checkpoint->Configs(PosixFileSystem())), options));
  const auto convert = [&](const RunOptions& run, const std::string& name) {
    return RunConversion(PosixFileSystem(), *checkpoint, plan, options, run, dir.File(name));
  };
  Must(convert({}, "one.q4"));
  const std::string expected = FileSha256(dir.File("one.q4"));

  RunOptions run;
  run.force = true;
  for (const unsigned threads : {1u, 2u, 7u}) {
    for (const std::uint64_t memory :
         {MinimumPipelineMemory(*checkpoint, plan, options, threads), std::uint64_t{1} << 30}) {
      run.threads = threads;
      run.max_memory = memory;
      Must(convert(run, "again.q4"));
      CHECK(FileSha256(dir.File("again.q4")) == expected);
    }
  }

  // Killed before each call that changes the disk, and gone on with.
  run.pace.bytes = 1;
  int resumed = 0;
  for (std::int64_t at = 0;; ++at) {
    std::filesystem::remove(dir.File("again.q4"));
    test::CrashFileSystem fs(at);
    const bool ended = RunConversion(fs, *checkpoint, plan, options, run, dir.File("again.q4")).ok();
    if (ended && !fs.crashed()) break;
    for (const std::string& note : Must(convert(run, "again.q4")).notes) resumed += note.starts_with("resumed");
    CHECK(FileSha256(dir.File("again.q4")) == expected);
  }
  CHECK(resumed > 10);
}

TEST_CASE("shards of a model of modules are exported as the whole is", "[threads]") {
  const TempDir dir;
  const std::string source = WriteModules(dir);
  ConvertOptions options;
  test::MustConvert(source, options, dir.File("one.q4"));
  options.shard_bytes = 12 * 1024;
  REQUIRE(test::MustConvert(source, options, dir.File("parts.q4")).shards.size() > 2);
  for (const char* to : {"bnb", "safetensors"}) {
    ExportOptions exported;
    exported.to = to;
    Must(ExportModel(PosixFileSystem(), dir.File("one.q4"), dir.File(std::string("one_") + to), exported));
    Must(ExportModel(PosixFileSystem(), dir.File("parts.q4.index.json"), dir.File(std::string("parts_") + to),
                     exported));
    const std::string files = Listing(dir.File(std::string("one_") + to));
    CHECK(files.find("3_Router/b/config.json") != std::string::npos);
    CHECK(Listing(dir.File(std::string("parts_") + to)) == files);
  }
}

}  // namespace
}  // namespace q4
