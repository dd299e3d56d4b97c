#include "formats/base/atomic_directory.h"

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::FaultyFileSystem;
using test::ReadBytes;
using test::TempDir;

std::unique_ptr<AtomicDirectory> Created(const std::string& path, bool replace = false) {
  return test::Must(AtomicDirectory::Create(PosixFileSystem(), path, replace));
}

int CreateIssue(const std::string& path, bool replace = false) {
  return IssueNumberOf(AtomicDirectory::Create(PosixFileSystem(), path, replace).status());
}

TEST_CASE("a directory appears whole, and nothing else does") {
  const TempDir temp;
  const std::string out = temp.File("out");
  const auto directory = Created(out);
  REQUIRE(directory->WriteFile("config.json", "{}").ok());
  REQUIRE(directory->WriteFile("1_Pooling/config.json", "{\"a\": 1}").ok());
  REQUIRE(directory->WriteFile("1_Pooling/more/b.txt", "b").ok());
  CHECK_FALSE(stdfs::exists(out));
  REQUIRE(directory->Publish().ok());
  CHECK(ReadBytes(out + "/1_Pooling/config.json") == "{\"a\": 1}");
  CHECK(ReadBytes(out + "/1_Pooling/more/b.txt") == "b");
  CHECK(std::distance(stdfs::directory_iterator(out), stdfs::directory_iterator()) == 2);
  CHECK(temp.Count() == 1);
}

TEST_CASE("an abandoned directory leaves nothing") {
  const TempDir temp;
  {
    const auto directory = Created(temp.File("out"));
    REQUIRE(directory->WriteFile("sub/a", "a").ok());
  }
  CHECK(temp.Count() == 0);
}

TEST_CASE("an existing output is refused, or replaced whole") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("out/old/file", "old");
  CHECK(CreateIssue(out) == kOutputExists.number);
  {
    const auto abandoned = Created(out, true);
    REQUIRE(abandoned->WriteFile("new", "new").ok());
  }
  CHECK(ReadBytes(out + "/old/file") == "old");

  const auto directory = Created(out, true);
  REQUIRE(directory->WriteFile("new", "new").ok());
  REQUIRE(directory->Publish().ok());
  CHECK(ReadBytes(out + "/new") == "new");
  CHECK_FALSE(stdfs::exists(out + "/old"));
  CHECK(temp.Count() == 1);
}

TEST_CASE("an output that came meanwhile is not touched") {
  const TempDir temp;
  const auto directory = Created(temp.File("out"));
  temp.Write("out/theirs", "theirs");
  CHECK(IssueNumberOf(directory->Publish()) == kOutputExists.number);
  CHECK(ReadBytes(temp.File("out/theirs")) == "theirs");
}

TEST_CASE("a second writer is turned away and does no harm") {
  const TempDir temp;
  const auto first = Created(temp.File("out"));
  REQUIRE(first->WriteFile("a", "a").ok());
  CHECK(CreateIssue(temp.File("out")) == kOutputInUse.number);
  REQUIRE(first->Publish().ok());
  CHECK(ReadBytes(temp.File("out/a")) == "a");
}

TEST_CASE("what a dead run left is cleared; what others made is not") {
  const TempDir temp;
  SECTION("a leftover") {
    temp.Write("out.partial/.q4-lock", "");
    temp.Write("out.partial/model.safetensors", "half");
    const auto directory = Created(temp.File("out"));
    REQUIRE(directory->Publish().ok());
    CHECK(stdfs::is_empty(temp.File("out")));
  }
  SECTION("a foreign directory") {
    temp.Write("out.partial/thesis.txt", "text");
    CHECK(CreateIssue(temp.File("out")) == kForeignPartial.number);
    CHECK(ReadBytes(temp.File("out.partial/thesis.txt")) == "text");
  }
  SECTION("a link") {
    temp.Write("elsewhere/thesis.txt", "text");
    stdfs::create_directory_symlink(temp.File("elsewhere"), temp.File("out.partial"));
    CHECK(CreateIssue(temp.File("out")) == kForeignPartial.number);
    stdfs::remove(temp.File("elsewhere/thesis.txt"));  // and an empty directory behind it is no leftover either
    CHECK(CreateIssue(temp.File("out")) == kForeignPartial.number);
    CHECK(stdfs::is_empty(temp.File("elsewhere")));
  }
  SECTION("a file") {
    temp.Write("out.partial", "text");
    CHECK(CreateIssue(temp.File("out")) == kForeignPartial.number);
  }
}

TEST_CASE("a directory cannot be made where there is none above it") {
  const TempDir temp;
  CHECK(CreateIssue(temp.File("none/out")) == kCannotCreateDirectory.number);
}

TEST_CASE("outputs that are no directory are refused even with replace") {
  const TempDir temp;
  temp.Write("file", "x");
  stdfs::create_directory_symlink(temp.path(), temp.File("link"));
  CHECK(CreateIssue(temp.File("file"), true) == kOutputNotADirectory.number);
  CHECK(CreateIssue(temp.File("link"), true) == kOutputNotADirectory.number);
}

TEST_CASE("removing a tree removes links and not what they lead to") {
  const TempDir temp;
  temp.Write("keep/file", "x");
  temp.Write("tree/sub/file", "y");
  stdfs::create_directory_symlink(temp.File("keep"), temp.File("tree/sub/link"));
  REQUIRE(RemoveTree(PosixFileSystem(), temp.File("tree")).ok());
  CHECK_FALSE(stdfs::exists(temp.File("tree")));
  CHECK(ReadBytes(temp.File("keep/file")) == "x");
  CHECK(RemoveTree(PosixFileSystem(), temp.File("absent")).ok());
}

// Replaces the directory at `path` by one that holds sub/new.
absl::Status Replace(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const auto directory, AtomicDirectory::Create(fs, path, true));
  Q4_RETURN_IF_ERROR(directory->WriteFile("sub/new", "new"));
  return directory->Publish();
}

TEST_CASE("whichever call fails: an error, the old directory or the new one, and the next run succeeds") {
  const test::Removals removals = GENERATE(test::Removals::kSucceed, test::Removals::kCanFail);
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    const TempDir temp;
    const std::string out = temp.File("out");
    temp.Write("out/old/file", "old");
    if (removals == test::Removals::kCanFail) {  // what dead runs left
      temp.Write("out.partial/.q4-lock", "");
      temp.Write("out.partial/sub/half", "half");
      temp.Write("out.q4-replaced/old/file", "older");
    }
    FaultyFileSystem fs(calls, removals);
    const absl::Status status = Replace(fs, out);
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(IssueNumberOf(status) == (failed ? kCannotWrite.number : 0));  // of that call, and of no later one

    const bool is_new = stdfs::exists(out + "/sub");
    CHECK(ReadBytes(out + (is_new ? "/sub/new" : "/old/file")) == (is_new ? "new" : "old"));
    CHECK(stdfs::exists(out + "/old") == !is_new);
    CHECK_FALSE(stdfs::exists(out + "/sub/half"));
    if (!failed) CHECK(is_new);

    CHECK(Replace(PosixFileSystem(), out).ok());
    CHECK(ReadBytes(out + "/sub/new") == "new");
    CHECK(temp.Count() == 1);
  }
  CHECK(calls > 15);
  std::cout << "atomic directory: each of " << calls - 1 << " calls failed in turn\n";
}

}  // namespace
}  // namespace q4
