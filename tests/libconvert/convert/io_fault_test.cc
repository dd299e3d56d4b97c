// Conversions in which one call of the file system fails, each in turn.
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "formats/base/file.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/sanitizer.h"

namespace q4 {
namespace {

using test::FaultyFileSystem;
using test::FileSha256;
using test::SafetensorsBuilder;
using test::Setup;
using test::TempDir;

std::string WriteSmallModel(const TempDir& dir) {
  SafetensorsBuilder builder;
  builder.Add("model.layers.0.mlp.up_proj.weight", "F32", {40, 64}, test::Weights(DType::kF32, 40 * 64, 1));
  builder.Add("model.layers.1.mlp.up_proj.weight", "BF16", {1200, 4001}, test::Weights(DType::kBF16, 1200 * 4001, 2));
  builder.Add("model.norm.weight", "F32", {64}, test::Weights(DType::kF32, 64, 3));
  dir.Write("config.json", R"({"model_type":"llama"})");
  return dir.Write("model.safetensors", builder.Build());
}

// Everything that a tool does, over one file system.
absl::Status Convert(FileSystem& fs, const Setup& setup, const std::string& out) {
  Q4_ASSIGN_OR_RETURN(const auto checkpoint, OpenCheckpoint(fs, setup.dir.File("model.safetensors")));
  Q4_ASSIGN_OR_RETURN(const std::string config, checkpoint->ConfigJson(fs));
  Q4_ASSIGN_OR_RETURN(const ConversionPlan plan, PlanConversion(*checkpoint, config, setup.options));
  RunOptions run;
  run.threads = 2;
  run.force = true;
  run.pace.time = std::chrono::hours(1);  // also a slow run is a short one, which leaves nothing
  return RunConversion(fs, *checkpoint, plan, setup.options, run, out).status();
}

}  // namespace

TEST_CASE("whichever call fails, the output is the old one or the new one", "[threads]") {
  Setup setup(WriteSmallModel);
  const std::string out = setup.dir.File("out.q4");
  const int step = test::Step(5);
  int faults = 0;
  for (const bool nested : {true, false}) {
    setup.options.policy.defaults.nested = nested;
    REQUIRE(Convert(PosixFileSystem(), setup, out).ok());
    const std::string complete = FileSha256(out);
    for (std::int64_t at = 0;; at += step) {
      setup.dir.Write("out.q4", test::OldOutput());
      FaultyFileSystem fs(at);
      const absl::Status status = Convert(fs, setup, out);
      INFO("call " << at << ", " << fs.failed_call() << ": " << MessageOf(status));
      if (!fs.failed()) {
        CHECK(status.ok());
        break;
      }
      ++faults;
      // No call is made whose failure does not matter.
      CHECK_FALSE(status.ok());
      CHECK(ExitCodeOf(status) == ExitCode::kIo);
      CHECK(MessageOf(status).find("No space left") != std::string::npos);
      const absl::StatusOr<std::string> content = ReadWholeFile(PosixFileSystem(), out, std::uint64_t{1} << 30);
      REQUIRE(content.ok());
      // Once renamed it is the new one, even if the directory could not be synced.
      CHECK((*content == test::OldOutput() || FileSha256(out) == complete));
      // What cannot be told to be ours stays where it is.
      if (!fs.failed_call().starts_with("CheckOurs")) CHECK_FALSE(std::filesystem::exists(out + ".partial"));
    }
  }
  fmt::print("io faults: {} calls failed in turn, output old or complete each time\n", faults);
  CHECK(faults > 40 / step);
}

}  // namespace q4
