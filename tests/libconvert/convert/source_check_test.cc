// Source files that change: between an interrupted run and the next, and while a run reads them. Whatever happens to
// them, an output is one of what lies there, to the bit.
#include "libconvert/convert/source_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/resume_setup.h"
#include "tests/support/sanitizer.h"

namespace q4 {
namespace {

using test::FileSha256;
using test::HasNote;
using test::kResumeTensors;
using test::ReadBytes;
using test::ResumeSetup;
using test::WriteBytes;
using test::WriteLayers;
using test::WriteLayersInTwoFiles;

// More than a tick of the clock by which file systems write change times.
void LetTheClockTick() { std::this_thread::sleep_for(std::chrono::milliseconds(12)); }

// The file's bytes with the lowest bits of weights changed, as another fine-tune of the model has them: the same header
// and size. `from`: a place in the file.
std::string OtherWeights(const std::string& path, std::size_t from) {
  std::string bytes = ReadBytes(path);
  for (std::size_t i = from + from % 2; i < bytes.size(); i += 202) bytes[i] ^= '\x41';
  return bytes;
}

// Behind the header.
constexpr std::size_t kAnyWeights = 3000;

// Writes over the file, or puts another inode in its place; its modification time is put back. Writing over never makes
// the file shorter in between: a run that reads meanwhile would meet its end there.
enum class By { kWritingOver, kAnotherInode };
void Replace(const std::string& path, const std::string& bytes, By by) {
  LetTheClockTick();
  const auto time = std::filesystem::last_write_time(path);
  if (by == By::kWritingOver) {
    REQUIRE(bytes.size() >= std::filesystem::file_size(path));
    std::fstream over(path, std::ios::binary | std::ios::in | std::ios::out);
    REQUIRE(over.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush());
  } else {
    WriteBytes(path + ".new", bytes);
    std::filesystem::rename(path + ".new", path);
  }
  std::filesystem::last_write_time(path, time);
}

struct Change {
  const char* what;
  std::function<void(const ResumeSetup&, const std::string& file)> make;
  bool same_content;
};

const std::vector<Change>& Changes() {
  static const std::vector<Change> changes = {
      {"touched",
       [](const ResumeSetup&, const std::string& file) {
         std::filesystem::last_write_time(file, std::filesystem::last_write_time(file) + std::chrono::seconds(1));
       },
       true},
      {"another mode",
       [](const ResumeSetup&, const std::string& file) {
         LetTheClockTick();
         std::filesystem::permissions(file, std::filesystem::perms::owner_all);
       },
       true},
      {"linked",
       [](const ResumeSetup&, const std::string& file) {
         LetTheClockTick();
         std::filesystem::create_hard_link(file, file + ".link");
         std::filesystem::remove(file + ".link");
       },
       true},
      {"written again",
       [](const ResumeSetup&, const std::string& file) { Replace(file, ReadBytes(file), By::kWritingOver); }, true},
      {"a copy", [](const ResumeSetup&, const std::string& file) { Replace(file, ReadBytes(file), By::kAnotherInode); },
       true},
      {"other weights written over it",
       [](const ResumeSetup&, const std::string& file) {
         Replace(file, OtherWeights(file, kAnyWeights), By::kWritingOver);
       },
       false},
      {"other weights in another inode",
       [](const ResumeSetup&, const std::string& file) {
         Replace(file, OtherWeights(file, kAnyWeights), By::kAnotherInode);
       },
       false},
      {"other weights at the end only",
       [](const ResumeSetup&, const std::string& file) {
         Replace(file, OtherWeights(file, std::filesystem::file_size(file) - 210), By::kWritingOver);
       },
       false},
      {"one bit of the first weights",
       [](const ResumeSetup&, const std::string& file) {
         std::string bytes = ReadBytes(file);
         bytes[kAnyWeights + 1] ^= 1;
         Replace(file, bytes, By::kWritingOver);
       },
       false},
  };
  return changes;
}

}  // namespace

TEST_CASE("a rerun is of the sources that lie there, and goes on where their content is the same") {
  const int step = test::Step(1, 3);  // no multiple of what the loops run over
  int setting = 0, reruns = 0, resumed = 0, same = 0, differences = 0;
  for (const auto write : {WriteLayers, WriteLayersInTwoFiles}) {
    for (const Change& change : Changes()) {
      for (const std::size_t tensors : {std::size_t{2}, std::size_t{6}, std::size_t{9}, kResumeTensors}) {
        for (const std::uint64_t shard_bytes : {0, 20'000}) {
          if (setting++ % step != 0) continue;
          ResumeSetup setup(write);
          setup.options.shard_bytes = shard_bytes;
          setup.Interrupt(tensors);
          const bool sharded = write == WriteLayersInTwoFiles;
          // Of two files the second, as a shard that is swapped; the first is read by then.
          const std::string file = setup.dir.File(!sharded           ? "model.safetensors"
                                                  : tensors % 2 == 0 ? "part-0.safetensors"
                                                                     : "part-1.safetensors");
          change.make(setup, file);
          const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem());
          INFO(change.what << ", " << tensors << " tensors, " << (sharded ? "two files: " : "one file: ")
                           << MessageOf(report.status()));
          REQUIRE(report.ok());
          const std::string outputs = setup.Outputs();
          const bool went_on = HasNote(*report, "resumed");
          CHECK(went_on != HasNote(*report, "began again: "));
          // How far the digest had come when a tensor was recorded depends on the threads. At the end it had all.
          if (change.same_content && tensors == kResumeTensors) {
            CHECK(HasNote(*report, "resumed: 13 of 13"));
            CHECK(HasNote(*report, "1 source file has other times or inodes"));
          }
          same += change.same_content && went_on;
          setup.RemoveOutputs();
          REQUIRE(setup.Convert(PosixFileSystem()).ok());
          CHECK(setup.Outputs() == outputs);
          differences += setup.Outputs() != outputs;
          ++reruns;
          resumed += went_on;
        }
      }
    }
  }
  fmt::print("resume: {} reruns over sources that had changed, {} resumed, {} differences\n", reruns, resumed,
             differences);
  CHECK(resumed < reruns);
  CHECK(same >= 20 / step);
}

TEST_CASE("files that no finished tensor came from may be others") {
  ResumeSetup setup(WriteLayersInTwoFiles);
  setup.Interrupt(2);
  // The digest may be ahead of what was converted.
  const std::string file = setup.dir.File("part-1.safetensors");
  const absl::StatusOr<Sha256> id = RunIdOf(PosixFileSystem(), setup.Plan());
  REQUIRE(id.ok());
  const Journal journal = ParseJournal(test::AsBytes(ReadBytes(setup.journal())), *id);
  const bool begun = std::any_of(journal.digests.begin(), journal.digests.end(), [](const SourceDigestState& state) {
    return state.file == 1 && state.sha256.bytes > 0;
  });
  Replace(file, OtherWeights(file, kAnyWeights), By::kAnotherInode);
  const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem());
  REQUIRE(report.ok());
  CHECK(HasNote(*report, begun ? "began again: " : "resumed: 2 of 13"));
  const std::string resumed = FileSha256(setup.output());
  setup.RemoveOutputs();
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  CHECK(FileSha256(setup.output()) == resumed);
}

TEST_CASE("a run whose digest cannot be kept begins again when the source has another time") {
  ResumeSetup setup;
  setup.options.source_digest = SourceDigest::kXxh3;
  setup.Interrupt(6);
  const std::string file = setup.dir.File("model.safetensors");
  SECTION("the same source") { CHECK(HasNote(*setup.Convert(PosixFileSystem()), "resumed: 6 of 13")); }
  SECTION("a copy") {
    Replace(file, ReadBytes(file), By::kAnotherInode);
    CHECK(HasNote(*setup.Convert(PosixFileSystem()), "began again: source files have other times"));
  }
}

TEST_CASE("companions of another content begin again; others of the same content do not") {
  ResumeSetup setup;
  setup.Interrupt(6);
  const std::string config = setup.dir.File("config.json");
  std::string other = ReadBytes(config);
  SECTION("the same") {
    Replace(config, other, By::kAnotherInode);
    CHECK(HasNote(*setup.Convert(PosixFileSystem()), "resumed: 6 of 13"));
    return;
  }
  SECTION("another config.json of the same size and time") { other[other.find("llama")] = 'L'; }
  SECTION("longer") { other += " "; }
  Replace(config, other, By::kWritingOver);
  CHECK(HasNote(*setup.Convert(PosixFileSystem()), "began again"));
  const std::string outputs = setup.Outputs();
  setup.RemoveOutputs();
  REQUIRE(setup.Convert(PosixFileSystem()).ok());
  CHECK(setup.Outputs() == outputs);
}

TEST_CASE("an interruption while the source is digested again keeps what there is") {
  ResumeSetup setup;
  setup.Interrupt(kResumeTensors);
  const std::string file = setup.dir.File("model.safetensors"), before = setup.Outputs();
  Replace(file, ReadBytes(file), By::kAnotherInode);
  std::atomic<bool> cancel{true};
  RunOptions run = ResumeSetup::EagerRun();
  run.cancel = &cancel;
  CHECK(ExitCodeOf(setup.Convert(PosixFileSystem(), run).status()) == ExitCode::kInterrupted);
  CHECK(setup.Outputs() == before);
  CHECK(HasNote(*setup.Convert(PosixFileSystem()), "resumed: 13 of 13"));
}

TEST_CASE("a source that changes while it is read: the same content passes, no mixture is published") {
  int refused = 0;
  for (const SourceDigest digest : {SourceDigest::kSha256, SourceDigest::kXxh3}) {
    for (const Change& change : Changes()) {
      ResumeSetup setup;
      setup.options.source_digest = digest;
      REQUIRE(setup.Convert(PosixFileSystem()).ok());
      const std::string complete = setup.Outputs();
      setup.RemoveOutputs();
      RunOptions run = ResumeSetup::EagerRun();
      run.threads = 1;
      bool made = false;
      run.progress = [&](const Progress& progress) {
        if (made || progress.done_tensors < 2) return;
        made = true;
        change.make(setup, setup.dir.File("model.safetensors"));
      };
      const absl::StatusOr<ConvertReport> report = setup.Convert(PosixFileSystem(), run);
      INFO(change.what << ": " << MessageOf(report.status()));
      REQUIRE(made);
      // An inode that is no longer at the path is still whole: the output is of the file that was opened.
      const bool whole = change.same_content || std::string(change.what).ends_with("another inode");
      const std::string outputs = setup.Outputs();
      if (!report.ok()) {
        CHECK_FALSE(whole);
        CHECK(outputs.empty());
        CHECK(IssueNumberOf(report.status()) == kFileChanged.number);
        ++refused;
        continue;
      }
      CHECK(HasNote(*report, setup.dir.File("model.safetensors") + ": its times changed"));
      if (whole) {
        CHECK(outputs == complete);
        continue;
      }
      // Nothing of what has changed had been read before: the output is of the file that lies there now.
      setup.RemoveOutputs();
      REQUIRE(setup.Convert(PosixFileSystem()).ok());
      CHECK(setup.Outputs() == outputs);
    }
  }
  CHECK(refused > 0);
}

TEST_CASE("a source that grows while it is read, and companions that change after the plan, are refused") {
  ResumeSetup setup;
  const auto refused = [&] {
    const absl::Status status = RunConversion(PosixFileSystem(), *setup.checkpoint, setup.Plan(), setup.options,
                                              ResumeSetup::EagerRun(), setup.output())
                                    .status();
    CHECK(IssueNumberOf(status) == kFileChanged.number);
    CHECK(setup.Outputs().empty());
  };
  const std::string config = setup.dir.File("config.json");
  SECTION("longer source") {
    std::ofstream(setup.dir.File("model.safetensors"), std::ios::app) << "more";
    refused();
  }
  SECTION("another config.json, its time put back") {
    std::string other = ReadBytes(config);
    other[other.find("llama")] = 'L';
    Replace(config, other, By::kWritingOver);
    refused();
  }
  SECTION("the same config.json in another inode: what decided the plan may have been another") {
    Replace(config, ReadBytes(config), By::kAnotherInode);
    refused();
  }
}

}  // namespace q4
