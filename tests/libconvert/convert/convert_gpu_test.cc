// The pipeline on GPUs: byte for byte what the cores write (numerics.md Q10).
#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libconvert/convert/memory_needs.h"
#include "libconvert/engine/cuda_slab_engine.h"
#include "libconvert/engine/device.h"
#include "libconvert/engine/device_issues.h"
#include "libconvert/scheme/scheme.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

using test::FileSha256;
using test::kMiB;
using test::Setup;
using test::TempDir;

std::unique_ptr<SlabEngine> Engine(const std::vector<int>& devices) { return test::Must(MakeCudaSlabEngine(devices)); }

std::string Sha256Of(const Setup& setup, const RunOptions& run) {
  const absl::StatusOr<ConvertReport> report = setup.Run(run);
  INFO(MessageOf(report.status()));
  REQUIRE(report.ok());
  return FileSha256(setup.dir.File("out.q4"));
}

std::string WriteBadModel(const TempDir& dir) {
  test::SafetensorsBuilder builder;
  std::string bytes = test::Weights(DType::kF32, 4'300'000, 1);
  bytes.replace(4 * 4'200'001, 4, std::string("\x00\x00\x80\x7f", 4));  // infinity, in the second slab
  builder.Add("layers.0.mlp.up_proj.weight", "F32", {4300, 1000}, bytes);
  return dir.Write("model.safetensors", builder.Build());
}

}  // namespace

TEST_CASE("one SHA-256 whether cores or GPUs convert") {
  Setup setup;
  const std::unique_ptr<SlabEngine> engine = Engine({});
  int runs = 0;
  for (const Scheme& scheme : Schemes()) {
    for (const std::uint32_t block_size : {32u, 64u, 256u, 4096u}) {
      for (const bool nested : {true, false}) {
        setup.options.policy.defaults = {{scheme.id, block_size, nested}, Q4Encoder::kAbsmax};
        setup.options.compression.zstd = block_size == 256;
        RunOptions run;
        run.force = true;
        run.max_memory = 1024 * kMiB;
        const std::string expected = Sha256Of(setup, run);
        run.engine = engine.get();
        for (const unsigned threads : {1u, 5u}) {
          run.threads = threads;
          for (const std::uint64_t memory : {1024 * kMiB, 300 * kMiB}) {
            run.max_memory = memory;
            INFO("block size " << block_size << ", nested " << nested << ", threads " << threads << ", memory "
                               << memory);
            CHECK(Sha256Of(setup, run) == expected);
            ++runs;
          }
        }
      }
    }
  }
  fmt::print("convert on GPUs: {} runs of 16 settings, each the SHA-256 of the CPU\n", runs);
}

TEST_CASE("elements that are not finite are found on a GPU too") {
  Setup setup(WriteBadModel);
  const std::unique_ptr<SlabEngine> engine = Engine({0});
  for (const bool nested : {true, false}) {
    setup.options.policy.defaults.nested = nested;
    RunOptions run;
    const absl::Status on_cpu = setup.Run(run).status();
    run.engine = engine.get();
    const absl::Status on_gpu = setup.Run(run).status();
    REQUIRE_FALSE(on_cpu.ok());
    CHECK(MessageOf(on_gpu) == MessageOf(on_cpu));
  }
  setup.options.keep_nonfinite = true;
  RunOptions run;
  run.force = true;
  const std::string expected = Sha256Of(setup, run);
  run.engine = engine.get();
  CHECK(Sha256Of(setup, run) == expected);
}

TEST_CASE("a GPU refuses an encoder that it has no kernels for, and the cores take it") {
  Q4Tensor tensor;
  static_cast<QuantFormat&>(tensor) = {Q4Scheme::kNf4, 64, false};
  tensor.name = "t";
  tensor.encoder = Q4Encoder::kMse;
  const absl::Status status = Engine({0})->Begin(tensor, 64).status();
  CHECK(IssueNumberOf(status) == kDeviceEncoder.number);
  CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
  CHECK(MessageOf(status).find("tensor 't'") != std::string::npos);
  CHECK(IsDeviceFailure(status));
}

TEST_CASE("a device that is not there is named") {
  const absl::Status status = MakeCudaSlabEngine({99}).status();
  CHECK(IssueNumberOf(status) == kNoDevice.number);
  CHECK(MessageOf(status).find("cuda:99") != std::string::npos);
}

}  // namespace q4
