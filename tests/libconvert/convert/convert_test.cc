// The converter end to end, in process: one checkpoint, every way of running it, one result.
#include "libconvert/convert/convert.h"

#include <fmt/format.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <random>

#include "formats/base/base_issues.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "formats/q4/validate.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/pipeline.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats.h"
#include "libconvert/policy/policy_issues.h"
#include "libconvert/scheme/slab.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/sanitizer.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::FileSha256;
using test::kMiB;
using test::SafetensorsBuilder;
using test::Setup;
using test::TempDir;
using test::Weights;

std::size_t Leftovers(const TempDir& dir) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    const std::string name = entry.path().filename().string();
    count += name.find(".partial") != std::string::npos || name.ends_with(".q4");
  }
  return count;
}

}  // namespace

TEST_CASE("any thread count, memory bound and kernel target give one SHA-256", "[threads]") {
  Setup setup;
  int runs = 0, setting = 0, settings = 0;
  for (const bool nested : {true, false}) {
    for (const bool zstd : {false, true}) {
      if (setting++ % test::Step(3) != 0) continue;  // under ThreadSanitizer the first and the last
      ++settings;
      setup.options.policy.defaults.nested = nested;
      setup.options.compression.zstd = zstd;
      const ConversionPlan plan = setup.Plan();
      std::string expected;
      for (const unsigned threads : {1u, 2u, 7u}) {
        if (test::kThreadSanitizer && threads != 7) continue;
        const std::uint64_t least = MinimumPipelineMemory(*setup.checkpoint, plan, setup.options, threads);
        // The least bound reads large tensors twice; the largest keeps them in memory.
        for (const std::uint64_t memory : {least, least + 24 * kMiB, 1024 * kMiB}) {
          RunOptions run;
          run.threads = threads;
          run.max_memory = memory;
          run.force = true;
          std::vector<const KernelTable*> targets = SimdKernels();
          targets.push_back(&ScalarKernels());
          run.kernels = targets[static_cast<std::size_t>(runs) % targets.size()];
          const absl::StatusOr<ConvertReport> report = setup.Run(run);
          INFO(MessageOf(report.status()));
          REQUIRE(report.ok());
          CHECK(report->peak_budget_bytes <= memory);
          const std::string sha256 = FileSha256(setup.dir.File("out.q4"));
          if (expected.empty()) expected = sha256;
          INFO("threads " << threads << ", memory " << memory << ", kernels " << run.kernels->name);
          CHECK(sha256 == expected);
          if (!zstd) CHECK(plan.output_bytes == report->output_bytes);
          ++runs;
        }
      }
    }
  }
  fmt::print("convert: {} runs of {} settings, 1 SHA-256 each\n", runs, settings);
}

std::string WriteShards(const TempDir& dir) {
  std::string map;
  for (const std::string part : {"1", "2", "3"}) {
    SafetensorsBuilder builder;
    const std::string name = "layers." + part + ".mlp.up_proj.weight";
    builder.Add(name, "BF16", {300, 200}, Weights(DType::kBF16, 300 * 200, 1));
    dir.Write("model-0000" + part + "-of-00003.safetensors", builder.Build());
    map += (map.empty() ? "" : ",") + fmt::format(R"("{}":"model-0000{}-of-00003.safetensors")", name, part);
  }
  return dir.Write("model.safetensors.index.json", R"({"metadata":{},"weight_map":{)" + map + "}}");
}

TEST_CASE("shards are digested alike by one thread in order and by many side by side", "[threads]") {
  Setup setup(WriteShards);
  for (const SourceDigest digest : {SourceDigest::kSha256, SourceDigest::kXxh3}) {
    setup.options.source_digest = digest;
    std::string expected;
    for (const unsigned threads : {1u, 2u, 8u, 16u}) {
      RunOptions run;
      run.threads = threads;
      run.force = true;
      const absl::StatusOr<ConvertReport> report = setup.Run(run);
      INFO(MessageOf(report.status()));
      REQUIRE(report.ok());
      if (expected.empty()) expected = report->shards[0].index.provenance;
      CHECK(report->shards[0].index.provenance == expected);
      for (const CheckpointFile& file : setup.checkpoint->files()) {
        if (digest == SourceDigest::kSha256) CHECK(expected.find(FileSha256(file.file->path())) != std::string::npos);
      }
    }
  }
}

TEST_CASE("a container holds what the reference kernels compute and verifies") {
  Setup setup;
  RunOptions run;
  run.threads = 2;
  REQUIRE(setup.Run(run).ok());
  const auto model = Q4Model::Open(PosixFileSystem(), setup.dir.File("out.q4"));
  INFO(MessageOf(model.status()));
  REQUIRE(model.ok());
  std::size_t quantized = 0;
  for (const SourceTensor& source : setup.checkpoint->tensors()) {
    const Q4Model::Location* at = (*model)->Find(source.name);
    REQUIRE(at != nullptr);
    const Q4Tensor& tensor = (*model)->tensor(*at);
    const absl::StatusOr<Q4TensorData> data = ReadQ4Tensor((*model)->reader(*at), tensor);
    INFO(source.name << ": " << MessageOf(data.status()));
    REQUIRE(data.ok());
    std::vector<std::uint8_t> x(source.bytes);
    REQUIRE(setup.checkpoint->Read(source, 0, x).ok());
    if (tensor.scheme == Q4Scheme::kRaw) {
      CHECK(data->data == x);
      continue;
    }
    ++quantized;
    const KernelTable& scalar = ScalarKernels();
    const FloatType type = FloatTypeOf(source.dtype);
    std::vector<std::uint8_t> codes(PackedBytes(source.elems));
    std::vector<float> scales(tensor.blocks());
    REQUIRE(scalar.quantize(type, CodeBook::kNf4, x.data(), source.elems, 64, codes.data(), scales.data()) ==
            kAllFinite);
    CHECK(data->codes == codes);
    Sum256 sum;
    sum.Add(scales);
    const float offset = NestedOffset(sum.total(), scales.size());
    CHECK(std::memcmp(&offset, &tensor.nested_offset, sizeof offset) == 0);
    std::vector<std::uint8_t> scale_codes(scales.size());
    std::vector<float> scales2(GroupCount(scales.size()));
    scalar.quantize_scales(scales.data(), scales.size(), offset, scale_codes.data(), scales2.data());
    CHECK(data->scale_codes == scale_codes);
    CHECK(data->scales2 == scales2);
    // The statistics in one piece, against those that the pipeline added from tiles and slabs.
    std::vector<float> decoded(scales.size());
    scalar.dequantize_scales(scale_codes.data(), scales2.data(), scales.size(), offset, decoded.data());
    std::vector<GroupSums> groups(GroupCount(scales.size()));
    SlabStats slab;
    scalar.error_stats(type, CodeBook::kNf4, x.data(), codes.data(), decoded.data(), source.elems, 64, groups.data(),
                       &slab);
    TensorStatsAccumulator whole;
    whole.AddSlab(0, 64, slab, groups);
    CHECK((*tensor.stats == whole.Finish()));
  }
  CHECK(quantized == 4);
  const auto config = (*model)->ReadFile("config.json");
  REQUIRE(config.ok());
  CHECK(*config == setup.config);
}

TEST_CASE("NaN in a kept tensor fails by its first element, or is counted; infinities are nothing to report") {
  constexpr std::uint64_t kElems = 4'300'000;  // of two slabs and several chunks
  Setup setup([](const TempDir& dir) {
    SafetensorsBuilder builder;
    std::string bad = Weights(DType::kF32, kElems, 1);
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    for (const std::uint64_t at : {4'299'999u, 4'194'304u, 4'199'999u}) test::PutValue(&bad, at * 4, nan);
    for (const std::uint64_t at : {0u, 4'000'000u}) test::PutValue(&bad, at * 4, -inf);
    builder.Add("a.norm", "F32", {kElems}, bad);
    builder.Add("b.q_proj.weight", "BF16", {64, 64}, Weights(DType::kBF16, 4096, 2));
    return dir.Write("model.safetensors", builder.Build());
  });
  for (const std::optional<DType> keep_dtype : {std::optional<DType>(), std::optional<DType>(DType::kBF16)}) {
    setup.options.keep_dtype = keep_dtype;
    setup.options.keep_nonfinite = false;
    RunOptions run;
    run.force = true;
    run.threads = 4;
    const absl::StatusOr<ConvertReport> failed = setup.Run(run);
    REQUIRE_FALSE(failed.ok());
    CHECK(IssueNumberOf(failed.status()) == kKeptNan.number);
    CHECK(MessageOf(failed.status()).find("tensor 'a.norm', element 4194304") != std::string::npos);
    CHECK(Leftovers(setup.dir) == 0);

    setup.options.keep_nonfinite = true;
    const absl::StatusOr<ConvertReport> kept = setup.Run(run);
    REQUIRE(kept.ok());
    CHECK(kept->notes == std::vector<std::string>{"tensor 'a.norm' is kept with 3 of 4300000 elements NaN"});
    std::filesystem::remove(setup.dir.File("out.q4"));
  }
}

TEST_CASE("non-finite weights fail by name and leave nothing, or are kept") {
  Setup setup([](const TempDir& dir) {
    SafetensorsBuilder builder;
    std::string bad = Weights(DType::kF32, 4'300'000, 1);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const std::uint64_t at : {4'200'001u, 4'199'999u}) test::PutValue(&bad, at * 4, nan);
    builder.Add("a.q_proj.weight", "F32", {1000, 4300}, bad);
    builder.Add("b.q_proj.weight", "BF16", {64, 64}, Weights(DType::kBF16, 4096, 2));
    return dir.Write("model.safetensors", builder.Build());
  });
  for (const bool nested : {true, false}) {
    setup.options.policy.defaults.nested = nested;
    setup.options.keep_nonfinite = false;
    const absl::StatusOr<ConvertReport> failed = setup.Run({});
    REQUIRE_FALSE(failed.ok());
    CHECK(ExitCodeOf(failed.status()) == ExitCode::kInvalidInput);
    INFO(MessageOf(failed.status()));
    CHECK(MessageOf(failed.status()).find("tensor 'a.q_proj.weight', element 4199999") != std::string::npos);
    CHECK(Leftovers(setup.dir) == 0);

    setup.options.keep_nonfinite = true;
    RunOptions run;
    run.force = true;
    const absl::StatusOr<ConvertReport> kept = setup.Run(run);
    REQUIRE(kept.ok());
    CHECK(kept->notes.size() == 1);
    CHECK(kept->shards[0].index.tensors[0].scheme == Q4Scheme::kRaw);
    CHECK(kept->shards[0].index.tensors[1].scheme == Q4Scheme::kNf4);
    const auto model = Q4Model::Open(PosixFileSystem(), setup.dir.File("out.q4"));
    REQUIRE(model.ok());
    const auto data = ReadQ4Tensor((*model)->reader({0, 0}), (*model)->tensor({0, 0}));
    REQUIRE(data.ok());
    std::vector<std::uint8_t> x(setup.checkpoint->tensors()[0].bytes);
    REQUIRE(setup.checkpoint->Read(setup.checkpoint->tensors()[0], 0, x).ok());
    CHECK(data->data == x);
    std::filesystem::remove(setup.dir.File("out.q4"));
  }
}

TEST_CASE("no plan names an encoder that is not built") {
  Setup setup;
  setup.options.policy.defaults.encoder = Q4Encoder::kNone;  // at present no other is without an object
  const absl::Status status = PlanConversion(*setup.checkpoint, setup.config, setup.options).status();
  CHECK(IssueNumberOf(status) == kEncoderNotBuilt.number);
  CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
  CHECK(MessageOf(status).find("tensor 'model.layers.0.") != std::string::npos);
  // Where nothing is quantized nothing names an encoder.
  setup.options.policy.patterns = {{false, "."}};
  CHECK(PlanConversion(*setup.checkpoint, setup.config, setup.options).ok());
}

TEST_CASE("scales that would decode to infinity stay fp32") {
  Setup setup([](const TempDir& dir) {
    // Most fp16 blocks at the top of the range, some small: the small ones are farthest from the mean and set the step
    // of the nested scales, so that some of the large ones round up past 65504.
    std::mt19937 random(5);
    std::vector<std::uint16_t> halves(64 * 512);
    for (std::size_t i = 0; i < halves.size(); ++i) {
      halves[i] = static_cast<std::uint16_t>(i / 64 % 16 == 0 ? 0x2000 + random() % 64 : 0x7BFF - random() % 10);
    }
    SafetensorsBuilder builder;
    builder.Add("a.q_proj.weight", "F16", {64, 512}, test::AsText(halves));
    return dir.Write("model.safetensors", builder.Build());
  });
  const absl::StatusOr<ConvertReport> report = setup.Run({});
  REQUIRE(report.ok());
  const Q4Tensor& tensor = report->shards[0].index.tensors[0];
  CHECK_FALSE(tensor.nested);
  CHECK(tensor.stats->overflow == 0);
  REQUIRE(report->notes.size() == 1);
  CHECK(report->notes[0].find("keeps fp32 scales") != std::string::npos);
}

TEST_CASE("shards hold the same tensors as one file", "[threads]") {
  Setup setup;
  REQUIRE(setup.Run({}).ok());
  setup.options.shard_bytes = 3 * kMiB;
  const absl::StatusOr<ConvertReport> report = setup.Run({}, "parts.q4");
  INFO(MessageOf(report.status()));
  REQUIRE(report.ok());
  REQUIRE(report->shards.size() >= 2);
  const auto one = Q4Model::Open(PosixFileSystem(), setup.dir.File("out.q4"));
  const auto parts = Q4Model::Open(PosixFileSystem(), setup.dir.File("parts.q4.index.json"));
  INFO(MessageOf(parts.status()));
  REQUIRE(parts.ok());
  REQUIRE((*one)->tensors().size() == (*parts)->tensors().size());
  for (std::size_t i = 0; i < (*one)->tensors().size(); ++i) {
    const auto& a = (*one)->tensors()[i];
    const auto& b = (*parts)->tensors()[i];
    REQUIRE((*one)->tensor(a).name == (*parts)->tensor(b).name);
    const auto x = ReadQ4Tensor((*one)->reader(a), (*one)->tensor(a));
    const auto y = ReadQ4Tensor((*parts)->reader(b), (*parts)->tensor(b));
    REQUIRE(x.ok());
    REQUIRE(y.ok());
    CHECK(x->data == y->data);
    CHECK(x->codes == y->codes);
    CHECK(x->scale_codes == y->scale_codes);
    CHECK(x->scales2 == y->scales2);
  }
}

// The names and digests of the source files that a shard lists.
std::string SourcesOf(const std::string& provenance) {
  const absl::StatusOr<ProvenanceView> view = ParseProvenance(provenance, {});
  REQUIRE(view.ok());
  std::string text;
  for (const SourceFileRecord& file : view->sources) text += file.name + " " + file.digest + "\n";
  return text;
}

TEST_CASE("a shard depends on the source files that it was read from, and lists those", "[threads]") {
  Setup setup(WriteShards);  // three files, a tensor of 60,000 elements in each: 34 KB as NF4
  const auto line = [&](int number) {
    const std::string name = fmt::format("model-0000{}-of-00003.safetensors", number);
    return name + " " + FileSha256(setup.dir.File(name)) + "\n";
  };
  const auto convert = [&](const std::string& name) {
    const absl::StatusOr<std::unique_ptr<Checkpoint>> opened =
        OpenCheckpoint(PosixFileSystem(), setup.checkpoint->path());
    REQUIRE(opened.ok());
    const absl::StatusOr<ConversionPlan> plan = PlanConversion(**opened, setup.config, setup.options);
    REQUIRE(plan.ok());
    absl::StatusOr<ConvertReport> report =
        RunConversion(PosixFileSystem(), **opened, *plan, setup.options, {}, setup.dir.File(name));
    INFO(MessageOf(report.status()));
    REQUIRE(report.ok());
    // The plan knew the size of every document.
    for (std::size_t i = 0; i < plan->shards.size(); ++i) {
      CHECK(plan->shards[i].file_bytes == report->shards[i].seal.file_bytes);
    }
    return *std::move(report);
  };

  SECTION("a shard for each file: a changed file changes its own shard only") {
    setup.options.shard_bytes = 1;
    const ConvertReport before = convert("a.q4");
    REQUIRE(before.shards.size() == 3);
    for (int i = 0; i < 3; ++i)
      CHECK(SourcesOf(before.shards[static_cast<std::size_t>(i)].index.provenance) == line(i + 1));
    const auto model = Q4Model::Open(PosixFileSystem(), before.index_path);
    REQUIRE(model.ok());
    CHECK(SourcesOf(ModelProvenance(**model)) == line(1) + line(2) + line(3));

    std::string second = test::ReadBytes(setup.dir.File("model-00002-of-00003.safetensors"));
    second[second.size() - 2] ^= 1;
    setup.dir.Write("model-00002-of-00003.safetensors", second);
    const ConvertReport after = convert("b.q4");
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK((FileSha256(before.shards[i].path) == FileSha256(after.shards[i].path)) == (i != 1));
    }
  }
  SECTION("two files in the first shard") {
    setup.options.shard_bytes = 70'000;
    const ConvertReport report = convert("a.q4");
    REQUIRE(report.shards.size() == 2);
    CHECK(SourcesOf(report.shards[0].index.provenance) == line(1) + line(2));
    CHECK(SourcesOf(report.shards[1].index.provenance) == line(3));
  }
  SECTION("one file of output lists them all") {
    CHECK(SourcesOf(convert("a.q4").shards[0].index.provenance) == line(1) + line(2) + line(3));
  }
}

TEST_CASE("a source file without tensors is listed all the same") {
  const TempDir dir;
  OpenOptions open;
  open.allow_empty = true;
  const auto checkpoint =
      test::Must(OpenCheckpoint(PosixFileSystem(), dir.Write("empty.safetensors", SafetensorsBuilder().Build()), open));
  const ConversionPlan plan = test::Must(PlanConversion(*checkpoint, "", {}));
  REQUIRE(plan.shards.size() == 1);
  CHECK(plan.shards[0].source_files == std::vector<std::uint32_t>{0});
}

TEST_CASE("shards that are cut inside a source file list it both") {
  Setup setup;
  setup.options.shard_bytes = 3 * kMiB;
  const absl::StatusOr<ConvertReport> report = setup.Run({});
  REQUIRE(report.ok());
  REQUIRE(report->shards.size() >= 2);
  const std::string expected = "model.safetensors " + FileSha256(setup.dir.File("model.safetensors")) + "\n";
  for (const ConvertedShard& shard : report->shards) CHECK(SourcesOf(shard.index.provenance) == expected);
}

TEST_CASE("kept tensors can change their type, but never overflow") {
  Setup setup;
  setup.options.keep_dtype = DType::kF32;
  const absl::StatusOr<ConvertReport> wide = setup.Run({});
  REQUIRE(wide.ok());
  for (const Q4Tensor& tensor : wide->shards[0].index.tensors) {
    if (tensor.name == "lm_head.weight") CHECK(tensor.dtype == DType::kF32);
    if (tensor.name == "counter") CHECK(tensor.dtype == DType::kI64);
  }
  Setup big([](const TempDir& dir) {
    SafetensorsBuilder builder;
    builder.Add("norm.weight", "F32", {2}, test::AsText(std::vector<float>{1.0f, 1e6f}));
    return dir.Write("model.safetensors", builder.Build());
  });
  big.options.keep_dtype = DType::kF16;
  const absl::StatusOr<ConvertReport> report = big.Run({});
  REQUIRE_FALSE(report.ok());
  CHECK(ExitCodeOf(report.status()) == ExitCode::kInvalidInput);
  CHECK(Leftovers(big.dir) == 0);
}

TEST_CASE("a refused, failed or cancelled run leaves the output as it was", "[threads]") {
  Setup setup;
  const std::string out = setup.dir.File("out.q4");
  SECTION("existing output without force") {
    setup.dir.Write("out.q4", test::OldOutput());
    const auto report = setup.Run({});
    CHECK(ExitCodeOf(report.status()) == ExitCode::kUsage);
    CHECK(*ReadWholeFile(PosixFileSystem(), out, 100) == test::OldOutput());
  }
  SECTION("gate exceeded, with force over an old file") {
    setup.dir.Write("out.q4", test::OldOutput());
    RunOptions run;
    run.force = true;
    run.gates.push_back(FlagGate("--max-nmse", "nmse", /*is_maximum=*/true, 1e-6, kNmseTooHigh));
    const auto report = setup.Run(run);
    REQUIRE(report.ok());
    REQUIRE_FALSE(report->gate_findings.empty());
    CHECK(report->gate_findings[0].issue == kNmseTooHigh.number);
    CHECK(report->gate_findings[0].message.find("tensor 'model.layers.0") != std::string::npos);
    CHECK(*ReadWholeFile(PosixFileSystem(), out, 100) == test::OldOutput());
    CHECK(Leftovers(setup.dir) == 1);
  }
  SECTION("cancelled on the way") {
    std::atomic<bool> cancel{false};
    RunOptions run;
    run.cancel = &cancel;
    run.progress = [&](const Progress& progress) { cancel = progress.done_bytes > 1000; };
    const auto report = setup.Run(run);
    // The reader may have read everything before the first chunk was committed; then the run simply succeeds.
    if (!report.ok()) {
      CHECK(ExitCodeOf(report.status()) == ExitCode::kInterrupted);
      CHECK(Leftovers(setup.dir) == 0);
    }
  }
  SECTION("cancelled before the start") {
    std::atomic<bool> cancel{true};
    RunOptions run;
    run.cancel = &cancel;
    CHECK(ExitCodeOf(setup.Run(run).status()) == ExitCode::kInterrupted);
    CHECK(Leftovers(setup.dir) == 0);
  }
  SECTION("too little memory") {
    RunOptions run;
    run.max_memory = kMiB;
    CHECK(ExitCodeOf(setup.Run(run).status()) == ExitCode::kUsage);
    CHECK(Leftovers(setup.dir) == 0);
  }
  SECTION("output is an input, under another name") {
    std::filesystem::create_hard_link(setup.dir.File("model.safetensors"), out);
    RunOptions run;
    run.force = true;
    const auto report = setup.Run(run);
    CHECK(ExitCodeOf(report.status()) == ExitCode::kUsage);
    CHECK(std::filesystem::hard_link_count(out) == 2);
  }
  SECTION("output's directory is missing; output is a directory; wrong name") {
    CHECK(ExitCodeOf(setup.Run({}, "no/where.q4").status()) == ExitCode::kIo);
    std::filesystem::create_directory(out);
    RunOptions run;
    run.force = true;
    CHECK(ExitCodeOf(setup.Run(run).status()) == ExitCode::kUsage);
    CHECK(ExitCodeOf(setup.Run({}, "out.bin").status()) == ExitCode::kUsage);
  }
}

TEST_CASE("a source that shrinks after it was opened is an error, not a crash") {
  Setup setup;
  std::filesystem::resize_file(setup.dir.File("model.safetensors"), 5 * kMiB);
  const auto report = setup.Run({});
  REQUIRE_FALSE(report.ok());
  CHECK(Leftovers(setup.dir) == 0);
}

// A file system where a companion grows just before it is opened for the n-th time.
class GrowingFile final : public test::ForwardingFileSystem {
 public:
  GrowingFile(const TempDir& dir, std::string name, int opening) : dir_(dir), name_(std::move(name)), left_(opening) {}
  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    if (BaseNameOf(path) == name_ && --left_ == 0) dir_.Write(name_, "longer than it was when the plan was made");
    return ForwardingFileSystem::OpenForRead(path, links);
  }
  int left() const { return left_; }

 private:
  const TempDir& dir_;
  const std::string name_;
  int left_;
};

TEST_CASE("a companion that grows after the plan is an error, not a truncated file") {
  // The first reading is for the run's identity, the second one for the container. Nothing is read of an empty one,
  // which must still be empty then.
  for (const int opening : {1, 2}) {
    for (const std::string name : {"tokenizer.json", "empty.txt"}) {
      INFO(name << ", opening " << opening);
      Setup setup([](const TempDir& dir) {
        dir.Write("empty.txt", "");
        return test::WriteModel(dir);
      });
      const ConversionPlan plan = setup.Plan();
      GrowingFile fs(setup.dir, name, opening);
      const auto report = RunConversion(fs, *setup.checkpoint, plan, setup.options, {}, setup.dir.File("out.q4"));
      CHECK(fs.left() == 0);
      CHECK(IssueNumberOf(report.status()) == kFileChanged.number);
      CHECK(MessageOf(report.status()).find(name) != std::string::npos);
      CHECK(Leftovers(setup.dir) == 0);
    }
  }
}

}  // namespace q4
