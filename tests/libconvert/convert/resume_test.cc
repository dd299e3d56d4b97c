// Conversions that are interrupted and gone on with.
#include "libconvert/convert/resume.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/file.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/journal.h"
#include "libconvert/judge/gate.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/crash_file_system.h"
#include "tests/support/must.h"
#include "tests/support/sanitizer.h"
#include "tests/support/steady_file.h"

namespace q4 {
namespace {

using test::AfterCrash;
using test::CrashFileSystem;
using test::FileSha256;
using test::SafetensorsBuilder;
using test::Setup;
using test::TempDir;
using test::Weights;

constexpr int kLayers = 6;
constexpr std::size_t kTensors = 2 * kLayers + 1;
constexpr std::int64_t kNever = 1'000'000;

std::string WriteLayers(const TempDir& dir) {
  SafetensorsBuilder builder;
  for (std::uint32_t i = 0; i < kLayers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    builder.Add(layer + "input_layernorm.weight", "BF16", {64}, Weights(DType::kBF16, 64, i));
    builder.Add(layer + "mlp.up_proj.weight", "BF16", {67, 333}, Weights(DType::kBF16, 67 * 333, 100 + i));
  }
  // Another treatment than planned.
  std::string nan = Weights(DType::kBF16, 64 * 64, 7);
  nan[100] = '\xC0';
  nan[101] = '\x7F';
  builder.Add("model.layers.6.mlp.up_proj.weight", "BF16", {64, 64}, nan);
  dir.Write("config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})");
  return dir.Write("model.safetensors", builder.Build());
}

// The same tensors in two files, the border in the middle of a layer.
std::string WriteLayersInTwoFiles(const TempDir& dir) {
  WriteLayers(dir);
  const std::string whole = test::ReadBytes(dir.File("model.safetensors"));
  const absl::StatusOr<std::unique_ptr<Checkpoint>> one =
      OpenCheckpoint(PosixFileSystem(), dir.File("model.safetensors"));
  REQUIRE(one.ok());
  SafetensorsBuilder files[2];
  std::string map;
  for (std::size_t i = 0; i < (*one)->tensors().size(); ++i) {
    const SourceTensor& tensor = (*one)->tensors()[i];
    const std::size_t file = i < kTensors / 2 ? 0 : 1;
    files[file].Add(tensor.name, DTypeName(tensor.dtype), tensor.shape,
                    std::string_view(whole).substr(tensor.place().offset, tensor.bytes));
    map += fmt::format(R"({}"{}":"part-{}.safetensors")", map.empty() ? "" : ",", tensor.name, file);
  }
  for (int i = 0; i < 2; ++i) dir.Write(fmt::format("part-{}.safetensors", i), files[i].Build());
  std::filesystem::remove(dir.File("model.safetensors"));
  return dir.Write("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
}

struct ResumeSetup : Setup {
  explicit ResumeSetup(std::string (*write)(const TempDir&) = WriteLayers) : Setup(write) {
    options.keep_nonfinite = true;
  }

  std::string output() const { return dir.File("out.q4"); }
  std::string journal() const { return JournalPath(output()); }
  std::string partial() const { return output() + ".partial"; }

  // Notes everything at once, so that every tensor is a point to go on from.
  static RunOptions EagerRun() {
    RunOptions run;
    run.threads = 2;
    run.force = true;
    run.pace.bytes = 1;
    return run;
  }

  absl::StatusOr<ConvertReport> Convert(FileSystem& fs, const RunOptions& run = EagerRun()) const {
    absl::StatusOr<std::unique_ptr<Checkpoint>> opened = OpenCheckpoint(fs, checkpoint->path());
    REQUIRE(opened.ok());
    const absl::StatusOr<ConversionPlan> plan = PlanConversion(**opened, config, options);
    REQUIRE(plan.ok());
    return RunConversion(fs, **opened, *plan, options, run, output());
  }

  // Of all files that a run leaves, in name order.
  std::string Outputs() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    std::string all;
    for (const std::string& name : names) {
      if (name.starts_with("out")) all += name + " " + FileSha256(dir.File(name)) + "\n";
    }
    return all;
  }
  void RemoveOutputs() const {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path())) paths.push_back(entry.path());
    for (const auto& path : paths) {
      if (path.filename().string().starts_with("out")) std::filesystem::remove(path);
    }
  }

  // Leaves what a run leaves whose journal speaks of `tensors` tensors; of all and of the seal, if that many there are.
  void Interrupt(std::size_t tensors) const {
    {
      CrashFileSystem fs(CrashFileSystem::kAtRename);
      REQUIRE_FALSE(Convert(fs).ok());
    }
    const absl::StatusOr<std::string> text = ReadWholeFile(PosixFileSystem(), journal(), 1 << 24);
    const absl::StatusOr<Sha256> id = RunIdOf(PosixFileSystem(), *checkpoint, Plan());
    REQUIRE(text.ok());
    REQUIRE(id.ok());
    const Journal whole = ParseJournal(test::AsBytes(*text), *id);
    REQUIRE(whole.bytes == text->size());
    REQUIRE(whole.owners.size() == kTensors + 1);  // and config.json
    if (tensors < kTensors) dir.Write("out.q4.journal", text->substr(0, whole.owners[tensors].bytes_end));
  }
};

// What stat() says of a source file.
struct Stamp {
  std::int64_t modified = 1, changed = 2;
  FileIdentity identity{3, 4};
};

class StampedFile final : public test::SteadyFile {
 public:
  explicit StampedFile(const Stamp& stamp) : SteadyFile("model.safetensors"), stamp_(stamp) {}
  absl::Status ReadAt(std::uint64_t, std::span<std::uint8_t>) const override { return absl::OkStatus(); }
  std::uint64_t size() const override { return 0; }
  std::int64_t modified_nanoseconds() const override { return stamp_.modified; }
  std::int64_t changed_nanoseconds() const override { return stamp_.changed; }
  FileIdentity identity() const override { return stamp_.identity; }

 private:
  Stamp stamp_;
};

bool HasNote(const ConvertReport& report, const std::string& begin) {
  return std::any_of(report.notes.begin(), report.notes.end(),
                     [&](const std::string& note) { return note.starts_with(begin); });
}

}  // namespace

TEST_CASE("whenever the machine stops, the output is old or complete, and a rerun gives the same bytes", "[threads]") {
  const int step = test::Step(7);
  int stops = 0, resumed = 0, failures = 0;
  for (const std::uint64_t shard_bytes : {0, 20'000}) {
    ResumeSetup setup(shard_bytes == 0 ? WriteLayers : WriteLayersInTwoFiles);
    for (const SourceDigest digest : {SourceDigest::kSha256, SourceDigest::kXxh3}) {
      setup.options.shard_bytes = shard_bytes;
      setup.options.source_digest = digest;
      setup.options.compression.zstd = digest == SourceDigest::kXxh3;
      setup.RemoveOutputs();
      REQUIRE(setup.Convert(PosixFileSystem()).ok());
      const std::string complete = setup.Outputs();
      REQUIRE((std::count(complete.begin(), complete.end(), '\n') > 3) == (shard_bytes != 0));
      for (std::int64_t at = 0;; at += step) {
        bool ended = false;
        for (const AfterCrash mode : {AfterCrash::kAll, AfterCrash::kSynced, AfterCrash::kSomething}) {
          setup.RemoveOutputs();
          const auto seed = static_cast<std::uint32_t>(at);
          {
            CrashFileSystem fs(at);
            const absl::StatusOr<ConvertReport> report = setup.Convert(fs);
            ended = report.ok() && !fs.crashed();
            if (fs.crashed()) fs.Restart(mode, seed);
          }
          // Stops once more on the way, at a place that moves.
          {
            CrashFileSystem fs(at * 7 % 23);
            (void)setup.Convert(fs).status();
            if (fs.crashed()) fs.Restart(mode, seed + 1);
          }
          RunOptions again = ResumeSetup::EagerRun();
          again.threads = at % 2 == 0 ? 1 : 3;
          CrashFileSystem never(kNever);
          const absl::StatusOr<ConvertReport> report = setup.Convert(never, again);
          INFO("call " << at << ", mode " << static_cast<int>(mode) << ": " << MessageOf(report.status()));
          REQUIRE(report.ok());
          resumed += HasNote(*report, "resumed");
          const bool equal = setup.Outputs() == complete;
          failures += !equal;
          CHECK(equal);
          ++stops;
        }
        if (ended) break;
      }
    }
  }
  fmt::print(
      "resume: stopped {} times before a call that changes the disk, then once more; {} reruns resumed; {} "
      "differences\n",
      stops, resumed, failures);
  CHECK(stops > 300 / step);
  CHECK(resumed > stops / 4);
}

TEST_CASE("an output that is replaced stays whole until the new one is") {
  ResumeSetup setup;
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  const std::string complete = FileSha256(setup.output());
  for (std::int64_t at = 0;; ++at) {
    setup.RemoveOutputs();
    setup.dir.Write("out.q4", test::OldOutput());
    CrashFileSystem fs(at);
    const bool ended = setup.Convert(fs).ok() && !fs.crashed();
    fs.Restart(AfterCrash::kSomething, static_cast<std::uint32_t>(at));
    const absl::StatusOr<std::string> content = ReadWholeFile(PosixFileSystem(), setup.output(), 1 << 24);
    REQUIRE(content.ok());
    INFO("call " << at);
    CHECK((*content == test::OldOutput() || FileSha256(setup.output()) == complete));
    if (ended) break;
  }
}

TEST_CASE("a run that was to replace the same bytes leaves no partial file behind") {
  ResumeSetup setup;
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  const std::string complete = setup.Outputs();
  {
    CrashFileSystem fs(CrashFileSystem::kAtRename);
    REQUIRE_FALSE(setup.Convert(fs).ok());
  }
  REQUIRE(std::filesystem::exists(setup.partial()));
  REQUIRE(std::filesystem::exists(setup.journal()));
  const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem());
  INFO(MessageOf(report.status()));
  REQUIRE(report.ok());
  CHECK(setup.Outputs() == complete);
}

TEST_CASE("an interrupted run goes on where it was, reads no finished tensor again, and says so") {
  ResumeSetup setup;
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  const std::string complete = FileSha256(setup.output());
  setup.RemoveOutputs();
  setup.Interrupt(6);
  REQUIRE(std::filesystem::exists(setup.partial()));
  REQUIRE(std::filesystem::exists(setup.journal()));
  CHECK_FALSE(std::filesystem::exists(setup.output()));

  std::optional<std::uint64_t> first_tensors;
  RunOptions run = ResumeSetup::EagerRun();
  run.progress = [&](const Progress& progress) {
    if (!first_tensors) first_tensors = progress.done_tensors;
  };
  const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem(), run);
  INFO(MessageOf(report.status()));
  REQUIRE(report.ok());
  CHECK(first_tensors == 6);
  CHECK(HasNote(*report, "resumed: 6 of 13"));
  CHECK(FileSha256(setup.output()) == complete);
  CHECK_FALSE(std::filesystem::exists(setup.partial()));
  CHECK_FALSE(std::filesystem::exists(setup.journal()));
}

TEST_CASE("a run that is cancelled keeps what it has noted") {
  ResumeSetup setup;
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  const std::string complete = FileSha256(setup.output());
  for (std::uint64_t tensors = 0; tensors < 13; ++tensors) {
    setup.RemoveOutputs();
    std::atomic<bool> cancel{false};
    RunOptions run = ResumeSetup::EagerRun();
    run.cancel = &cancel;
    run.progress = [&](const Progress& progress) {
      if (progress.done_tensors >= tensors) cancel.store(true);
    };
    // Small tensors may all be on their way when the flag is raised.
    const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem(), run);
    if (report.ok()) continue;
    CHECK(ExitCodeOf(report.status()) == ExitCode::kInterrupted);
    CHECK(std::filesystem::exists(setup.partial()) == std::filesystem::exists(setup.journal()));
    REQUIRE(setup.Convert(PosixFileSystem()).ok());
    CHECK(FileSha256(setup.output()) == complete);
  }
}

TEST_CASE("what is noted about a tensor's treatment comes back") {
  ResumeSetup setup;
  const absl::StatusOr<ConvertReport> undisturbed = setup.Convert(PosixFileSystem());
  REQUIRE(undisturbed.ok());
  REQUIRE(HasNote(*undisturbed, "tensor 'model.layers.6.mlp.up_proj.weight' is kept"));
  const std::string complete = FileSha256(setup.output());
  setup.RemoveOutputs();
  setup.Interrupt(kTensors);
  const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem());
  REQUIRE(report.ok());
  CHECK(FileSha256(setup.output()) == complete);
  CHECK(HasNote(*report, "resumed: 13 of 13"));
  CHECK(HasNote(*report, "tensor 'model.layers.6.mlp.up_proj.weight' is kept"));
}

TEST_CASE("leftovers of another run, or damaged ones, are never built on") {
  ResumeSetup setup;
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  const std::string complete = FileSha256(setup.output());
  setup.RemoveOutputs();
  setup.Interrupt(8);
  const absl::StatusOr<std::string> journal = ReadWholeFile(PosixFileSystem(), setup.journal(), 1 << 24);
  const absl::StatusOr<std::string> partial = ReadWholeFile(PosixFileSystem(), setup.partial(), 1 << 24);
  REQUIRE(journal.ok());
  REQUIRE(partial.ok());
  const auto rerun = [&](const RunOptions& run = ResumeSetup::EagerRun()) {
    return test::Must(setup.Convert(PosixFileSystem(), run));
  };
  const auto leave = [&](const std::string& journal_bytes, const std::string& partial_bytes) {
    setup.RemoveOutputs();
    setup.dir.Write("out.q4.journal", journal_bytes);
    setup.dir.Write("out.q4.partial", partial_bytes);
  };

  SECTION("undamaged, it is resumed") {
    CHECK(HasNote(rerun(), "resumed"));
    CHECK(FileSha256(setup.output()) == complete);
  }
  SECTION("--no-resume") {
    RunOptions run = ResumeSetup::EagerRun();
    run.resume = false;
    CHECK(HasNote(rerun(run), "began again"));
    CHECK(FileSha256(setup.output()) == complete);
  }
  SECTION("other options") {
    setup.options.policy.defaults.block_size = 128;
    CHECK(HasNote(rerun(), "began again"));
    CHECK(FileSha256(setup.output()) != complete);
  }
  SECTION("input with another modification time") {
    const std::string path = setup.dir.File("model.safetensors");
    std::filesystem::last_write_time(path, std::filesystem::last_write_time(path) + std::chrono::seconds(1));
    CHECK(HasNote(rerun(), "began again"));
    CHECK(FileSha256(setup.output()) == complete);
  }
  SECTION("input written over in place, its modification time put back") {
    // The last byte of the first layer's weight, which the interrupted run has finished.
    const std::string path = setup.dir.File("model.safetensors");
    const auto time = std::filesystem::last_write_time(path);
    const SourceTensor& weight = setup.checkpoint->tensors()[1];
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary)
        .seekp(static_cast<std::streamoff>(weight.place().end() - 1))
        .put('\x01');
    std::filesystem::last_write_time(path, time);
    CHECK(HasNote(rerun(), "began again"));
    const std::string changed = FileSha256(setup.output());
    CHECK(changed != complete);
    setup.RemoveOutputs();
    (void)rerun();
    CHECK(FileSha256(setup.output()) == changed);
  }
  SECTION("input replaced by another file, its modification time put back") {
    const std::string path = setup.dir.File("model.safetensors");
    const auto time = std::filesystem::last_write_time(path);
    std::filesystem::copy_file(path, path + ".copy");
    std::filesystem::rename(path + ".copy", path);
    std::filesystem::last_write_time(path, time);
    CHECK(HasNote(rerun(), "began again"));
    CHECK(FileSha256(setup.output()) == complete);
  }
  SECTION("other companion file of the same size") {
    setup.dir.Write("config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"lLama"})");
    CHECK(HasNote(rerun(), "began again"));
  }
  SECTION("journal longer than the partial file, at every length") {
    for (std::size_t bytes = 0; bytes < partial->size(); bytes += 1013) {
      leave(*journal, partial->substr(0, bytes));
      (void)rerun();
      CHECK(FileSha256(setup.output()) == complete);
    }
  }
  SECTION("torn journal, at every length") {
    std::size_t resumed = 0;
    for (std::size_t bytes = 0; bytes < journal->size(); bytes += 61) {
      leave(journal->substr(0, bytes), *partial);
      resumed += HasNote(rerun(), "resumed");
      CHECK(FileSha256(setup.output()) == complete);
    }
    CHECK(resumed > 10);
  }
  SECTION("flipped bits") {
    std::mt19937 random(5);
    for (int i = 0; i < 100; ++i) {
      std::string bad_journal = *journal, bad_partial = *partial;
      std::string& bad = i % 2 == 0 ? bad_journal : bad_partial;
      bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
      leave(bad_journal, bad_partial);
      (void)rerun();
      CHECK(FileSha256(setup.output()) == complete);
    }
  }
  SECTION("journal that is no file") {
    std::filesystem::remove(setup.journal());
    std::filesystem::create_symlink(setup.dir.Write(".elsewhere", *journal), setup.journal());
    CHECK(HasNote(rerun(), "began again"));
    CHECK(FileSha256(setup.output()) == complete);
    CHECK(std::filesystem::file_size(setup.dir.File(".elsewhere")) == journal->size());
  }
}

TEST_CASE("a run is known by the times and inodes of its source files, whatever device they lie on") {
  const ResumeSetup setup;
  const ConversionPlan plan = setup.Plan();
  const auto id_of = [&](const Stamp& stamp) {
    std::vector<CheckpointFile> files;
    files.push_back({"model.safetensors", std::make_unique<StampedFile>(stamp)});
    CheckpointContent content;
    content.path = "model.safetensors";
    content.files = std::move(files);
    const Checkpoint checkpoint(std::move(content));
    return test::Must(RunIdOf(PosixFileSystem(), checkpoint, plan));
  };
  const Sha256 id = id_of({});
  CHECK(id_of({}) == id);
  CHECK(id_of({.modified = 9}) != id);
  CHECK(id_of({.changed = 9}) != id);
  CHECK(id_of({.identity = {3, 9}}) != id);
  CHECK(id_of({.identity = {9, 4}}) == id);
}

TEST_CASE("errors that a rerun would meet again leave nothing") {
  ResumeSetup setup;
  setup.options.keep_nonfinite = false;  // the NaN in the last tensor
  const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem());
  CHECK(IssueNumberOf(report.status()) == kNonFinite.number);
  CHECK(setup.Outputs().empty());
}

TEST_CASE("a gate that fails after a long run leaves nothing") {
  ResumeSetup setup;
  RunOptions run = ResumeSetup::EagerRun();
  run.gates.push_back(FlagGate("--max-nmse", "nmse", /*is_maximum=*/true, 1e-9, kNmseTooHigh));
  const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem(), run);
  REQUIRE(report.ok());
  CHECK(report->gate_finding_count > 0);
  CHECK(setup.Outputs().empty());
}

TEST_CASE("a journal ends where it is torn or changed") {
  const Sha256 run_id = Sha256Of({});
  ResumeSetup setup;
  setup.Interrupt(8);
  const absl::StatusOr<std::string> text = ReadWholeFile(PosixFileSystem(), setup.journal(), 1 << 24);
  REQUIRE(text.ok());
  std::vector<std::uint8_t> bytes(text->begin(), text->end());
  const absl::StatusOr<Sha256> id = RunIdOf(PosixFileSystem(), *setup.checkpoint, setup.Plan());
  REQUIRE(id.ok());
  const Journal whole = ParseJournal(bytes, *id);
  REQUIRE(whole.owners.size() == 9);
  CHECK(whole.bytes == bytes.size());
  CHECK(ParseJournal(bytes, run_id).owners.empty());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Journal cut = ParseJournal(std::span(bytes).first(size), *id);
    REQUIRE(cut.bytes <= size);
    REQUIRE(cut.owners.size() < whole.owners.size() + (size >= whole.owners.back().bytes_end));
  }
  std::size_t flips = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit, ++flips) {
      bytes[at] ^= static_cast<std::uint8_t>(1 << bit);
      const Journal flipped = ParseJournal(bytes, *id);
      REQUIRE(flipped.bytes <= at);
      bytes[at] ^= static_cast<std::uint8_t>(1 << bit);
    }
  }
  fmt::print("journal: {} bit flips, 0 believed\n", flips);
}

}  // namespace q4
