// Exports that are published file by file, on a machine that stops, and stops again while the next run puts it right.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/export/export.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/crash_file_system.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/sanitizer.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::AfterCrash;
using test::CrashFileSystem;
using test::ReadBytes;
using test::SafetensorsBuilder;
using test::Setup;
using test::TempDir;

constexpr char kWeightName[] = "model.layers.0.mlp.up_proj.weight";

// With a module folder, so that a file that makes a part of the model lies below.
std::string WriteTinyModel(const TempDir& dir) {
  SafetensorsBuilder tensors;
  tensors.Add(kWeightName, "F32", {1, 64}, test::Weights(DType::kF32, 64, 1));
  dir.Write("model/config.json", R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})");
  dir.Write("model/modules.json", R"([{"path": ""}, {"path": "1_Pooling"}])");
  dir.Write("model/1_Pooling/config.json", "{}");
  return dir.Write("model/model.safetensors", tensors.Build());
}

// Of regular files below `directory`, the leftovers of runs aside.
std::map<std::string, std::string> FilesIn(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : stdfs::recursive_directory_iterator(directory)) {
    const std::string name = entry.path().lexically_relative(directory);
    if (entry.is_regular_file() && !name.starts_with(".q4")) files[name] = ReadBytes(entry.path());
  }
  return files;
}

absl::Status ExportAmongOthers(FileSystem& fs, const std::string& input, const std::string& output, bool force) {
  ExportOptions options;
  options.threads = 1;
  options.into = true;
  options.force = force;
  return ExportModel(fs, input, output, options).status();
}

}  // namespace

TEST_CASE("file by file, two stops in a row: the third run completes it, and what others put there stays") {
  const Setup setup(WriteTinyModel);
  const TempDir& temp = setup.dir;
  REQUIRE(setup.Run({}, "a.q4").ok());
  Setup other(WriteTinyModel);
  other.options.policy.defaults.block_size = 32;  // other bytes of an older output
  REQUIRE(other.Run({}, "b.q4").ok());
  const bool over_older = GENERATE(false, true);
  const AfterCrash mode = GENERATE(AfterCrash::kAll, AfterCrash::kSynced, AfterCrash::kSomething);
  const std::string out = temp.File("out");
  const auto prepare = [&] {
    stdfs::remove_all(out);
    temp.Write("out/README.md", "mine");
    CrashFileSystem fs(CrashFileSystem::kNever);
    if (over_older) REQUIRE(ExportAmongOthers(fs, other.dir.File("b.q4"), out, false).ok());
  };
  const auto run = [&](std::int64_t at) {
    CrashFileSystem fs(at);
    const absl::Status status = ExportAmongOthers(fs, temp.File("a.q4"), out, over_older);
    // What was complete already needs --force.
    const bool ended = status.ok() || ExitCodeOf(status) == ExitCode::kUsage;
    INFO("call " << at << ": " << MessageOf(status));
    CHECK((fs.crashed() || ended));
    fs.Restart(mode, static_cast<std::uint32_t>(at));
    return fs.crashed() ? at : fs.calls();
  };
  prepare();
  const std::int64_t calls = run(CrashFileSystem::kNever);
  std::map<std::string, std::string> complete = FilesIn(out);
  REQUIRE(complete.contains("1_Pooling/config.json"));

  int pairs = 0;
  // Another part of the second run after each call of the first: in the end every call of the second has been last.
  // All pairs with Q4_EXHAUSTIVE=1 in the environment.
  const std::int64_t step = std::getenv("Q4_EXHAUSTIVE") != nullptr ? 1 : test::kThreadSanitizer ? 47 : 23;
  for (std::int64_t first = 0; first < calls; ++first) {
    for (std::int64_t second = first % step; second < calls + 10; second += step, ++pairs) {
      INFO("calls " << first << " and " << second << ", mode " << static_cast<int>(mode) << ", over " << over_older);
      prepare();
      run(first);
      run(second);
      run(CrashFileSystem::kNever);
      CHECK(FilesIn(out) == complete);
      const bool left = stdfs::exists(out + "/.q4.partial");
      CHECK((!left || !over_older));  // a lock may be left of a run that had published
      CHECK(temp.Count() == 3);
    }
  }
  fmt::print("export, file by file: {} pairs of stops at {} calls\n", pairs, calls);
}

}  // namespace q4
