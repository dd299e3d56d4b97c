// The pipeline on GPUs: byte for byte what the cores write (numerics.md Q10).
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/calibration/calibration.h"
#include "kernels/numeric.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/engine/cuda_slab_engine.h"
#include "libconvert/engine/device.h"
#include "libconvert/engine/device_issues.h"
#include "libconvert/scheme/scheme.h"
#include "tests/support/calibration_builder.h"
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

// Moments of n features, one in eleven of them nothing, and a Hessian that has them as its diagonal.
std::vector<float> MadeUpMoments(std::uint64_t n, float spread) {
  std::vector<float> moments(n);
  for (std::uint64_t j = 0; j < n; ++j) {
    moments[j] = j % 11 == 5 ? 0.0f : 1.0f + spread * static_cast<float>(j * 2654435761u % 97);
  }
  return moments;
}
std::vector<float> MadeUpHessian(const std::vector<float>& moments) {
  const std::uint64_t n = moments.size();
  std::vector<float> hessian(n * n);
  for (std::uint64_t i = 0; i < n; ++i) {
    for (std::uint64_t j = 0; j < n; ++j) {
      const float together = i == j ? 1.0f : 0.6f / static_cast<float>(1 + (i < j ? j - i : i - j));
      hessian[i * n + j] = i == j ? moments[i] : std::sqrt(moments[i] * moments[j]) * together;
    }
  }
  return hessian;
}

// The model of test::WriteModel(), and moments for some of its weights: a slab begins within a row.
constexpr const char* kCalibration = "calibration.safetensors";
std::string WriteWeightedModel(const TempDir& dir) {
  test::CalibrationBuilder builder;
  builder.Layer("model.layers.0.mlp.up_proj.weight", MadeUpMoments(3001, 0.1f));
  builder.Layer("model.layers.0.mlp.down_proj.weight", MadeUpMoments(77, 3));
  builder.Layer("model.layers.0.self_attn.q_proj.weight", MadeUpMoments(2111, 1), /*transposed=*/true);
  dir.Write(kCalibration, builder.Build());
  return test::WriteModel(dir);
}

// Weights of every kind with Hessians: two slabs, the second of which begins in a row; odd sizes; stored as (in, out);
// a stack of matrices; one whose damping is raised; one with moments alone; one without anything.
std::string WriteHessianModel(const TempDir& dir) {
  test::SafetensorsBuilder model;
  test::CalibrationBuilder builder;
  const auto add = [&](const std::string& name, DType dtype, const Shape& shape, std::uint64_t columns, bool transposed,
                       std::uint32_t seed) {
    std::uint64_t elems = 1;
    for (const std::uint64_t d : shape) elems *= d;
    model.Add(name, DTypeName(dtype), shape, test::Weights(dtype, elems, seed));
    if (columns == 0) return;
    const std::uint64_t matrices = shape.size() == 3 ? shape[0] : 1;
    std::vector<float> moments, hessians;
    for (std::uint64_t m = 0; m < matrices; ++m) {
      const std::vector<float> one = MadeUpMoments(columns, 0.1f * static_cast<float>(1 + m));
      std::vector<float> hessian = MadeUpHessian(one);
      if (name.find("o_proj") != std::string::npos) {
        // More together than they can be: an eigenvalue of about -0.05.
        hessian[1] = hessian[columns] = 1.05f * std::sqrt(one[0] * one[1]);
      }
      moments.insert(moments.end(), one.begin(), one.end());
      hessians.insert(hessians.end(), hessian.begin(), hessian.end());
    }
    builder.Weight(name, name, transposed);
    if (shape.size() == 3) {
      builder.Tensor(name + ".second_moments", "F32", {matrices, columns}, test::BytesOfAll(moments));
      builder.Tensor(name + ".count", "I64", {matrices}, test::BytesOfAll(std::vector<std::int64_t>(matrices, 100)));
      builder.Tensor(name + ".hessian", "F32", {matrices, columns, columns}, test::BytesOfAll(hessians));
      return;
    }
    builder.Input(name, moments);
    if (name.find("k_proj") == std::string::npos) {
      builder.Tensor(name + ".hessian", "F32", {columns, columns}, test::BytesOfAll(hessians));
    }
  };
  add("model.layers.0.mlp.up_proj.weight", DType::kBF16, {4120, 1021}, 1021, false, 1);
  add("model.layers.0.mlp.down_proj.weight", DType::kF16, {77, 129}, 129, false, 2);
  add("model.h.0.attn.c_attn.weight", DType::kF32, {70, 67}, 70, true, 3);
  add("model.layers.0.mlp.experts.gate_up_proj", DType::kBF16, {3, 21, 33}, 33, false, 4);
  add("model.layers.0.self_attn.o_proj.weight", DType::kBF16, {40, 64}, 64, false, 5);
  add("model.layers.0.self_attn.k_proj.weight", DType::kBF16, {40, 64}, 64, false, 6);
  add("model.layers.0.self_attn.q_proj.weight", DType::kBF16, {32, 96}, 0, false, 7);
  dir.Write(kCalibration, builder.Build());
  return dir.Write("model.safetensors", model.Build());
}

// Converts on the cores and on GPUs, for many settings.
void CompareCalibrated(Setup* setup, Q4Encoder encoder, const std::vector<std::uint32_t>& block_sizes,
                       const std::vector<int>& efforts) {
  setup->options.calibration = test::Must(Calibration::Open(PosixFileSystem(), setup->dir.File(kCalibration)));
  int runs = 0;
  for (const int effort : efforts) {
    const std::unique_ptr<SlabEngine> engine = test::Must(MakeCudaSlabEngine({}, effort));
    setup->options.effort = effort;
    for (const Scheme& scheme : Schemes()) {
      for (const std::uint32_t block_size : block_sizes) {
        for (const bool nested : {true, false}) {
          setup->options.policy.defaults = {{scheme.id, block_size, nested}, encoder};
          setup->options.keep_nonfinite = block_size == 256;
          RunOptions run;
          run.force = true;
          run.max_memory = 1024 * kMiB;
          INFO(Q4EncoderName(encoder) << ", block size " << block_size << ", nested " << nested << ", effort "
                                      << effort);
          const ConvertReport on_cpu = test::Must(setup->Run(run));
          std::uint64_t of_encoder = 0;
          for (const ConvertedShard& shard : on_cpu.shards) {
            for (const Q4Tensor& tensor : shard.index.tensors)
              of_encoder += tensor.quantized() && tensor.encoder == encoder;
          }
          // Nested scales leave small tensors to absmax.
          CHECK(of_encoder >= (nested ? 1 : 3));
          const std::string expected = FileSha256(setup->dir.File("out.q4"));
          run.engine = engine.get();
          run.threads = block_size == 64 ? 5 : 1;
          const ConvertReport on_gpu = test::Must(setup->Run(run));
          CHECK(FileSha256(setup->dir.File("out.q4")) == expected);
          CHECK(on_gpu.notes == on_cpu.notes);
          ++runs;
        }
      }
    }
  }
  fmt::print("{} on GPUs: {} runs, each the SHA-256 of the CPU\n", Q4EncoderName(encoder), runs);
}

}  // namespace

TEST_CASE("one SHA-256 of the encoder weighted whether cores or GPUs convert") {
  Setup setup(WriteWeightedModel);
  CompareCalibrated(&setup, Q4Encoder::kWeighted, {32, 64, 256, 4096}, {2});
  CompareCalibrated(&setup, Q4Encoder::kWeighted, {64}, {1, 3});
}

TEST_CASE("one SHA-256 of the encoder feedback whether cores or GPUs convert") {
  Setup setup(WriteHessianModel);
  setup.options.policy.patterns = {{true, "c_attn|experts"}};
  CompareCalibrated(&setup, Q4Encoder::kFeedback, {32, 64, 256, 4096}, {2});
  CompareCalibrated(&setup, Q4Encoder::kFeedback, {128}, {1, 3});
}

TEST_CASE("a Hessian that is none is refused on a GPU in the words of the cores") {
  Setup setup(+[](const TempDir& dir) {
    test::CalibrationBuilder builder;
    const std::string name = "model.layers.0.mlp.up_proj.weight";
    const std::vector<float> moments(64, 1.0f);
    std::vector<float> hessian = MadeUpHessian(moments);
    for (const std::size_t at : {std::size_t{1}, std::size_t{64}}) hessian[at] = 300;
    builder.Layer(name, moments).Tensor(name + ".hessian", "F32", {64, 64}, test::BytesOfAll(hessian));
    dir.Write(kCalibration, builder.Build());
    test::SafetensorsBuilder model;
    model.Add(name, "BF16", {40, 64}, test::Weights(DType::kBF16, 40 * 64, 1));
    return dir.Write("model.safetensors", model.Build());
  });
  setup.options.calibration = test::Must(Calibration::Open(PosixFileSystem(), setup.dir.File(kCalibration)));
  setup.options.policy.defaults = {{Q4Scheme::kNf4, 64, true}, Q4Encoder::kFeedback};
  RunOptions run;
  const absl::Status on_cpu = setup.Run(run).status();
  const std::unique_ptr<SlabEngine> engine = Engine({0});
  run.engine = engine.get();
  const absl::Status on_gpu = setup.Run(run).status();
  REQUIRE_FALSE(on_cpu.ok());
  CHECK(MessageOf(on_gpu) == MessageOf(on_cpu));
}

TEST_CASE("a Hessian that a GPU has no room for is refused there, and the cores take it") {
  // Of an input that nobody has calibrated: the memory is asked for before anything is read.
  InputStatistics input;
  input.name = "t";
  input.columns = std::uint64_t{1} << 20;
  Q4Tensor tensor;
  static_cast<QuantFormat&>(tensor) = {Q4Scheme::kNf4, 64, false};
  tensor.name = "t";
  tensor.encoder = Q4Encoder::kFeedback;
  tensor.dtype = DType::kBF16;
  tensor.shape = {1, input.columns};
  tensor.elems = input.columns;
  Setup setup(WriteHessianModel);
  const std::shared_ptr<const Calibration> calibration =
      test::Must(Calibration::Open(PosixFileSystem(), setup.dir.File(kCalibration)));
  const FeedbackRun run{BestCpuKernels(), *calibration, 1, {}};
  const absl::Status status =
      Engine({0})->ChooseWhole(run, tensor, {&input, false}, nullptr, nullptr, nullptr).status();
  CHECK(IssueNumberOf(status) == kDeviceMemory.number);
  CHECK(IsDeviceFailure(status));
  CHECK(MessageOf(status).find("tensor 't'") != std::string::npos);
  CHECK(MessageOf(status).find("1048576 columns") != std::string::npos);
}

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
