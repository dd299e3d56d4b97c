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
#include "tests/support/resume_setup.h"
#include "tests/support/sanitizer.h"

namespace q4 {
namespace {

using test::AfterCrash;
using test::CrashFileSystem;
using test::FileSha256;
using test::HasNote;
using test::kResumeTensors;
using test::ResumeSetup;
using test::WriteLayers;
using test::WriteLayersInTwoFiles;

constexpr std::int64_t kNever = 1'000'000;

}  // namespace

TEST_CASE("whenever the machine stops, the output is old or complete, and a rerun gives the same bytes", "[threads]") {
  const int step = test::Step(7, 3);
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
  setup.Interrupt(kResumeTensors);
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
  const absl::StatusOr<Sha256> id = RunIdOf(PosixFileSystem(), setup.Plan());
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
