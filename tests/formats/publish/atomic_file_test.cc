#include "formats/publish/atomic_file.h"

#include <sys/stat.h>

#include <string>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::AsBytes;
using test::ReadBytes;
using test::TempDir;

TEST_CASE("the destination appears on Publish and not before") {
  const TempDir dir;
  auto output = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
  REQUIRE(output.ok());
  REQUIRE((*output)->file().WriteAt(0, AsBytes("content")).ok());
  CHECK_FALSE(std::filesystem::exists(dir.File("out")));
  REQUIRE((*output)->Publish().ok());
  output->reset();
  CHECK(ReadBytes(dir.File("out")) == "content");
  CHECK(dir.Count() == 1);
}

TEST_CASE("P3: an output given up leaves nothing behind") {
  const TempDir dir;
  dir.Write("out", "old");
  {
    auto output = AtomicFile::Create(PosixFileSystem(), dir.File("out"), true);
    REQUIRE(output.ok());
    REQUIRE((*output)->file().WriteAt(0, AsBytes("new")).ok());
    CHECK(dir.Count() == 2);
  }
  CHECK(dir.Count() == 1);
  CHECK(ReadBytes(dir.File("out")) == "old");
}

TEST_CASE("E03: an existing output is replaced only when asked") {
  const TempDir dir;
  dir.Write("out", "old and longer");
  const auto refused = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
  CHECK(IssueNumberOf(refused.status()) == kOutputExists.number);
  CHECK(ExitCodeOf(refused.status()) == ExitCode::kIo);
  CHECK(dir.Count() == 1);
  REQUIRE(WriteFileAtomically(PosixFileSystem(), dir.File("out"), "new", true).ok());
  CHECK(ReadBytes(dir.File("out")) == "new");
  CHECK(dir.Count() == 1);
}

TEST_CASE("an output that appears during the run is not overwritten") {
  const TempDir dir;
  auto output = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
  REQUIRE(output.ok());
  dir.Write("out", "theirs");
  CHECK(IssueNumberOf((*output)->Publish()) == kOutputExists.number);
  output->reset();
  CHECK(ReadBytes(dir.File("out")) == "theirs");
  CHECK(dir.Count() == 1);
}

TEST_CASE("E04: directories, devices and links are no outputs") {
  const TempDir dir;
  std::filesystem::create_directory(dir.File("d"));
  REQUIRE(::mkfifo(dir.File("fifo").c_str(), 0600) == 0);
  for (const std::string& path : {dir.File("d"), dir.File("fifo"), std::string("/dev/null")}) {
    INFO(path);
    CHECK(IssueNumberOf(AtomicFile::Create(PosixFileSystem(), path, true).status()) == kOutputNotARegularFile.number);
  }
  std::filesystem::create_symlink("nowhere", dir.File("link"));
  CHECK(IssueNumberOf(AtomicFile::Create(PosixFileSystem(), dir.File("link"), false).status()) == kOutputExists.number);
  // A link at the partial's place is refused: its target is not ours to truncate.
  dir.Write("victim", "precious");
  std::filesystem::create_symlink("victim", dir.File("out.partial"));
  CHECK(IssueNumberOf(AtomicFile::Create(PosixFileSystem(), dir.File("out"), false).status()) ==
        kOutputNotARegularFile.number);
  CHECK(ReadBytes(dir.File("victim")) == "precious");
  CHECK(std::filesystem::is_symlink(dir.File("out.partial")));
}

TEST_CASE("E01: a missing directory is an error at once") {
  const TempDir dir;
  const auto output = AtomicFile::Create(PosixFileSystem(), dir.File("none/out"), false);
  CHECK(ExitCodeOf(output.status()) == ExitCode::kIo);
}

TEST_CASE("E08: a second writer is told, and harms nothing") {
  const TempDir dir;
  auto first = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
  REQUIRE(first.ok());
  REQUIRE((*first)->file().WriteAt(0, AsBytes("first")).ok());
  CHECK(IssueNumberOf(AtomicFile::Create(PosixFileSystem(), dir.File("out"), false).status()) == kOutputInUse.number);
  REQUIRE((*first)->Publish().ok());
  CHECK(ReadBytes(dir.File("out")) == "first");
}

TEST_CASE("what a dead run left is started over") {
  const TempDir dir;
  dir.Write("out.partial", "remains of a dead run");
  REQUIRE(WriteFileAtomically(PosixFileSystem(), dir.File("out"), "ok", false).ok());
  CHECK(ReadBytes(dir.File("out")) == "ok");
  CHECK(dir.Count() == 1);
}

TEST_CASE("a finished output that still has its partial name too is never truncated") {
  // As link() leaves it where the writer died before unlink().
  const TempDir dir;
  dir.Write("out", "finished");
  std::filesystem::create_hard_link(dir.File("out"), AtomicFile::PartialPath(dir.File("out")));
  CHECK(IssueNumberOf(AtomicFile::Create(PosixFileSystem(), dir.File("out"), false).status()) == kOutputExists.number);
  {
    auto output = AtomicFile::Create(PosixFileSystem(), dir.File("out"), true);
    REQUIRE(output.ok());
    REQUIRE((*output)->file().WriteAt(0, AsBytes("given up")).ok());
  }
  CHECK(ReadBytes(dir.File("out")) == "finished");
  CHECK(dir.Count() == 1);
  std::filesystem::create_hard_link(dir.File("out"), AtomicFile::PartialPath(dir.File("out")));
  REQUIRE(WriteFileAtomically(PosixFileSystem(), dir.File("out"), "new", true).ok());
  CHECK(ReadBytes(dir.File("out")) == "new");
  CHECK(dir.Count() == 1);
}

TEST_CASE("a writer between link() and unlink() keeps both names") {
  const TempDir dir;
  auto writer = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
  REQUIRE(writer.ok());
  REQUIRE((*writer)->file().WriteAt(0, AsBytes("finished")).ok());
  std::filesystem::create_hard_link(AtomicFile::PartialPath(dir.File("out")), dir.File("out"));
  CHECK(IssueNumberOf(AtomicFile::Create(PosixFileSystem(), dir.File("out"), true).status()) == kOutputInUse.number);
  CHECK(dir.Count() == 2);
  CHECK(ReadBytes(dir.File("out")) == "finished");
}

// A file system where a writer dies between link() and unlink() just after the first look at its output.
class LinkedLate final : public test::ForwardingFileSystem {
 public:
  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    const std::string output = path.substr(0, path.size() - AtomicFile::PartialPath("").size());
    if (!std::filesystem::exists(output)) std::filesystem::create_hard_link(path, output);
    return ForwardingFileSystem::OpenLocked(path);
  }
};

TEST_CASE("an output that is linked after the first look is never truncated") {
  const TempDir dir;
  dir.Write("out.partial", "finished");
  LinkedLate fs;
  auto output = AtomicFile::Create(fs, dir.File("out"), false);
  REQUIRE(output.ok());
  CHECK(ReadBytes(dir.File("out")) == "finished");
  CHECK(IssueNumberOf((*output)->Publish()) == kOutputExists.number);
  output->reset();
  CHECK(ReadBytes(dir.File("out")) == "finished");
  CHECK(dir.Count() == 1);
}

TEST_CASE("whichever call fails: its error, and the old file or the new one") {
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    const TempDir dir;
    dir.Write("out", "old");
    dir.Write("out.partial", "remains of a dead run");
    test::FaultyFileSystem fs(calls);
    const absl::Status status = WriteFileAtomically(fs, dir.File("out"), "new", true);
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(IssueNumberOf(status) == (failed ? kCannotWrite.number : 0));
    const std::string content = ReadBytes(dir.File("out"));
    CHECK((content == "new" || (failed && content == "old")));
  }
  // stat, open, stat of both names, truncate, write, sync, rename, sync of the directory, close; and one without fault
  CHECK(calls == 12);
}

TEST_CASE("whichever call fails of a file that many write: its error, and the old file or the new one") {
  for (std::int64_t call = 0;; ++call) {
    const TempDir dir;
    dir.Write("out", "old");
    test::FaultyFileSystem fs(call);
    const absl::Status status = WriteFileUniquely(fs, dir.File("out"), "new", true);
    INFO("call " << call << ", " << fs.failed_call() << ": " << status.message());
    CHECK(status.ok() != fs.failed());
    const std::string content = ReadBytes(dir.File("out"));
    CHECK((content == "new" || (fs.failed() && content == "old")));
    if (!fs.failed()) break;
  }
}

TEST_CASE("the partial name of such a file is told from others") {
  const std::string digits = "0123456789abcdef";
  CHECK(IsUniquePartial(".out." + digits + ".partial", "out"));
  for (const std::string& other :
       {".oud." + digits + ".partial", "xout." + digits + ".partial", ".out." + digits.substr(1) + ".partial",
        ".out." + digits + "0.partial", ".out." + digits + ".part", std::string(".out.0123456789abcdeg.partial"),
        std::string(".out")}) {
    INFO(other);
    CHECK_FALSE(IsUniquePartial(other, "out"));
  }
}

TEST_CASE("whichever call fails beside an output with two names, the output stays") {
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    const TempDir dir;
    dir.Write("out", "old");
    std::filesystem::create_hard_link(dir.File("out"), AtomicFile::PartialPath(dir.File("out")));
    test::FaultyFileSystem fs(calls, test::Removals::kCanFail);
    const absl::Status status = WriteFileAtomically(fs, dir.File("out"), "new", true);
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(status.ok() == !failed);
    const std::string content = ReadBytes(dir.File("out"));
    CHECK((content == "new" || (failed && content == "old")));
  }
  CHECK(calls == 14);  // remove and the second open beside those above
}

TEST_CASE("whichever call of the probe fails: it is said, and what dead probes left is gone after the next") {
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    const TempDir dir;
    const std::string probe = AtomicFile::ProbePath(AtomicFile::PartialPath("out"));
    dir.Write(probe, "");
    dir.Write(probe + "2", "");
    {
      const auto output = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
      REQUIRE(output.ok());
    }
    test::FaultyFileSystem fs(calls, test::Removals::kCanFail);
    const auto output = AtomicFile::Create(fs, dir.File("out"), false);
    if (!output.ok()) continue;  // that is for the tests above
    const absl::Status status = (*output)->TryPublishing();
    INFO("call " << calls << ", " << fs.failed_call() << ": " << status.message());
    failed = fs.failed();
    CHECK(IssueNumberOf(status) == (failed ? kCannotWrite.number : 0));
    CHECK(test::Must(AtomicFile::Create(PosixFileSystem(), dir.File("next"), false))->TryPublishing().ok());
    if (!failed) CHECK(dir.Count() == 1);
  }
  CHECK(calls > 15);
}

TEST_CASE("a probe's name that somebody else's file has is left alone") {
  const TempDir dir;
  const std::string probe = AtomicFile::ProbePath(AtomicFile::PartialPath("out"));
  SECTION("a file that is not empty") { dir.Write(probe, "thesis"); }
  SECTION("a directory") { std::filesystem::create_directory(dir.File(probe)); }
  SECTION("a link") { std::filesystem::create_symlink("nowhere", dir.File(probe)); }
  SECTION("the second name") { dir.Write(probe + "2", "thesis"); }
  const auto output = AtomicFile::Create(PosixFileSystem(), dir.File("out"), false);
  REQUIRE(output.ok());
  CHECK(IssueNumberOf((*output)->TryPublishing()) == kForeignPartial.number);
  CHECK(dir.Count() == 2);
}

}  // namespace
}  // namespace q4
