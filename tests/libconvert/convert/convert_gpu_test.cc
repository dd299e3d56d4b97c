// The pipeline on GPUs: byte for byte what the cores write (numerics.md Q10).
#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/numeric.h"
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

// A tensor of three values, which is left to absmax where scales are nested (numerics.md Q9.9), beside one that is not,
// and one whose nested scales would overflow under absmax (Q5.12).
std::string WriteModelThatGivesWay(const TempDir& dir) {
  test::SafetensorsBuilder builder;
  std::string few(2 * 4'300'000, '\0'), top(2 * 4096 * 5, '\0');
  for (std::size_t i = 0; i < few.size() / 2; ++i) {
    const std::uint16_t values[] = {0x0000, 0x3C00, 0xBC00};  // 0, 1, -1
    StoreElement(FloatType::kF16, few.data(), i, WidenF16(values[i * 2654435761u % 7 % 3]));
  }
  for (std::size_t i = 0; i < top.size() / 2; ++i) {
    StoreElement(FloatType::kF16, top.data(), i, i % 64 == 0 ? 65504.0f : 64.0f * static_cast<float>(i % 900));
  }
  builder.Add("layers.0.self_attn.q_proj.weight", "F16", {4300, 1000}, few);
  builder.Add("layers.0.self_attn.k_proj.weight", "F16", {5, 4096}, top);
  builder.Add("layers.0.mlp.up_proj.weight", "BF16", {301, 1000}, test::Weights(DType::kBF16, 301'000, 9));
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

TEST_CASE("one SHA-256 of the encoder mse whether cores or GPUs convert") {
  for (const bool gives_way : {false, true}) {
    Setup setup(gives_way ? WriteModelThatGivesWay : test::WriteModel);
    int runs = 0;
    const std::vector<std::uint32_t> all_sizes =
        gives_way ? std::vector{64u, 4096u} : std::vector{32u, 64u, 256u, 4096u};
    for (const int effort : gives_way ? std::vector{kDefaultEffort} : std::vector{1, 2, 3}) {
      const std::unique_ptr<SlabEngine> engine = test::Must(MakeCudaSlabEngine({}, effort));
      setup.options.effort = effort;
      for (const Scheme& scheme : Schemes()) {
        for (const std::uint32_t block_size : effort == kDefaultEffort ? all_sizes : std::vector{64u}) {
          for (const bool nested : {true, false}) {
            setup.options.policy.defaults = {{scheme.id, block_size, nested}, Q4Encoder::kMse};
            // Plain scales in two passes, of which the first keeps the slabs, or in one.
            setup.options.keep_nonfinite = block_size == 256;
            RunOptions run;
            run.force = true;
            run.max_memory = 1024 * kMiB;
            const std::string expected = Sha256Of(setup, run);
            run.engine = engine.get();
            run.threads = block_size == 64 ? 5 : 1;
            for (const std::uint64_t memory : {1024 * kMiB, 300 * kMiB}) {
              run.max_memory = memory;
              INFO("block size " << block_size << ", nested " << nested << ", effort " << effort << ", memory "
                                 << memory << ", gives way " << gives_way);
              CHECK(Sha256Of(setup, run) == expected);
              ++runs;
            }
          }
        }
      }
    }
    fmt::print("mse on GPUs: {} runs, each the SHA-256 of the CPU\n", runs);
  }
}

TEST_CASE("a tensor that is left to absmax is so on a GPU, with the note of the cores") {
  Setup setup(WriteModelThatGivesWay);
  setup.options.policy.defaults = {{Q4Scheme::kNf4, 64, true}, Q4Encoder::kMse};
  RunOptions run;
  run.force = true;
  const ConvertReport on_cpu = test::Must(setup.Run(run));
  const std::unique_ptr<SlabEngine> engine = Engine({0});
  run.engine = engine.get();
  const ConvertReport on_gpu = test::Must(setup.Run(run));
  CHECK(on_gpu.notes == on_cpu.notes);
  bool left = false;
  for (const std::string& note : on_cpu.notes)
    left = left || note.find("q_proj.weight' is left to absmax") != std::string::npos;
  CHECK(left);
}

TEST_CASE("elements that are not finite are found by a search on a GPU too") {
  Setup setup(WriteBadModel);
  const std::unique_ptr<SlabEngine> engine = Engine({0});
  for (const bool nested : {true, false}) {
    setup.options.policy.defaults = {{Q4Scheme::kNf4, 64, nested}, Q4Encoder::kMse};
    setup.options.keep_nonfinite = false;
    RunOptions run;
    run.force = true;
    const absl::Status on_cpu = setup.Run(run).status();
    run.engine = engine.get();
    const absl::Status on_gpu = setup.Run(run).status();
    REQUIRE_FALSE(on_cpu.ok());
    CHECK(MessageOf(on_gpu) == MessageOf(on_cpu));
    setup.options.keep_nonfinite = true;
    run.engine = nullptr;
    const std::string expected = Sha256Of(setup, run);
    run.engine = engine.get();
    CHECK(Sha256Of(setup, run) == expected);
  }
}

TEST_CASE("a GPU refuses an encoder that it has no kernels for, and the cores take it") {
  Q4Tensor tensor;
  static_cast<QuantFormat&>(tensor) = {Q4Scheme::kNf4, 64, false};
  tensor.name = "t";
  tensor.encoder = Q4Encoder::kNone;  // named in containers, and built nowhere
  const absl::Status status = Engine({0})->Begin(tensor, {0, 64, nullptr}).status();
  CHECK(IssueNumberOf(status) == kDeviceEncoder.number);
  CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
  CHECK(MessageOf(status).find("tensor 't'") != std::string::npos);
  CHECK(MessageOf(status).find("none") != std::string::npos);
  CHECK(IsDeviceFailure(status));
}

TEST_CASE("a device that is not there is named") {
  const absl::Status status = MakeCudaSlabEngine({99}).status();
  CHECK(IssueNumberOf(status) == kNoDevice.number);
  CHECK(MessageOf(status).find("cuda:99") != std::string::npos);
}

}  // namespace q4
