#include "formats/publish/atomic_directory.h"

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/publish/leftover.h"
#include "tests/support/catch.h"
#include "tests/support/crash_file_system.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::FaultyFileSystem;
using test::ReadBytes;
using test::TempDir;

// For a destination that must not exist.
const DirectoryUse kAbsent;
// For one that holds what `ours` names, and perhaps other files.
DirectoryUse Over(std::vector<std::string> ours, bool keep_others = false) {
  return {.may_exist = true, .ours = std::move(ours), .keep_others = keep_others};
}

std::unique_ptr<AtomicDirectory> Created(const std::string& path, const DirectoryUse& use = kAbsent) {
  return test::Must(AtomicDirectory::Create(PosixFileSystem(), path, use));
}

int CreateIssue(const std::string& path, const DirectoryUse& use = kAbsent) {
  return IssueNumberOf(AtomicDirectory::Create(PosixFileSystem(), path, use).status());
}

TEST_CASE("a directory appears whole, and nothing else does") {
  const TempDir temp;
  const std::string out = temp.File("out");
  const auto directory = Created(out);
  REQUIRE(directory->WriteFile("config.json", "{}").ok());
  REQUIRE(directory->WriteFile("1_Pooling/config.json", "{\"a\": 1}").ok());
  REQUIRE(directory->WriteFile("1_Pooling/more/b.txt", "b").ok());
  CHECK_FALSE(stdfs::exists(out));
  REQUIRE(directory->Publish(kAbsent, {}).ok());
  CHECK(ReadBytes(out + "/1_Pooling/config.json") == "{\"a\": 1}");
  CHECK(ReadBytes(out + "/1_Pooling/more/b.txt") == "b");
  CHECK(std::distance(stdfs::directory_iterator(out), stdfs::directory_iterator()) == 2);
  CHECK(temp.Count() == 1);
}

TEST_CASE("a run that resumes finds what the one before it left, and publishes only what it adopts") {
  const TempDir temp;
  const std::string out = temp.File("out");
  DirectoryUse use;
  use.resumes = true;
  {
    const auto directory = Created(out, use);
    REQUIRE(directory->WriteFile("part/done", "done").ok());
    REQUIRE(directory->WriteFile("part/torn", "to").ok());
    REQUIRE(directory->WriteFile("stale/x", "x").ok());
    directory->LeavePartial();
  }
  CHECK_FALSE(stdfs::exists(out));
  {
    const auto directory = Created(out, use);
    CHECK(ReadBytes(test::Must(directory->PathFor("part/done"))) == "done");
    REQUIRE(directory->Adopt("part/done").ok());
    CHECK(IssueNumberOf(directory->Adopt("part/missing")) == kForeignPartial.number);
    CHECK(IssueNumberOf(directory->Adopt("part")) == kForeignPartial.number);
    stdfs::create_symlink("done", test::Must(directory->PathFor("part/link")));
    CHECK(IssueNumberOf(directory->Adopt("part/link")) == kForeignPartial.number);
    // What is not adopted is written anew.
    REQUIRE(directory->WriteFile("part/torn", "whole").ok());
    CHECK(IssueNumberOf(directory->WriteFile("part/torn", "again")) == kOutputExists.number);
    REQUIRE(directory->Publish(use, {}).ok());
  }
  CHECK(ReadBytes(out + "/part/done") == "done");
  CHECK(ReadBytes(out + "/part/torn") == "whole");
  CHECK_FALSE(stdfs::exists(out + "/stale"));
  CHECK(temp.Count() == 1);
}

TEST_CASE("a run that does not resume clears what one left") {
  const TempDir temp;
  const std::string out = temp.File("out");
  {
    DirectoryUse use;
    use.resumes = true;
    const auto directory = Created(out, use);
    REQUIRE(directory->WriteFile("old", "old").ok());
    directory->LeavePartial();
  }
  const auto directory = Created(out);
  CHECK_FALSE(stdfs::exists(test::Must(directory->PathFor("old"))));
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
  const DirectoryUse use = Over({"old/file"});
  {
    const auto abandoned = Created(out, use);
    REQUIRE(abandoned->WriteFile("new", "new").ok());
  }
  CHECK(ReadBytes(out + "/old/file") == "old");

  const auto directory = Created(out, use);
  REQUIRE(directory->WriteFile("new", "new").ok());
  REQUIRE(directory->Publish(use, {}).ok());
  CHECK(directory->whole());
  CHECK(ReadBytes(out + "/new") == "new");
  CHECK_FALSE(stdfs::exists(out + "/old"));
  CHECK(temp.Count() == 1);
}

TEST_CASE("what nobody has named is never removed with an old directory") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("out/old", "old");
  const DirectoryUse use = Over({"old"});
  const auto directory = Created(out, use);
  REQUIRE(directory->WriteFile("new", "new").ok());
  temp.Write("out/thesis", "text");  // at the last moment
  const absl::Status published = directory->Publish(use, {});
  CHECK(IssueNumberOf(published) == kForeignPartial.number);
  CHECK(MessageOf(published).find("thesis") != std::string::npos);
  CHECK(ReadBytes(out + "/new") == "new");
  CHECK(ReadBytes(out + ".partial/thesis") == "text");
  // Nor by the next run.
  CHECK(CreateIssue(out, Over({"new"})) == kForeignPartial.number);
  CHECK(ReadBytes(out + ".partial/thesis") == "text");
}

TEST_CASE("file by file: others stay, old files go, and what makes a model comes last") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("out/theirs/README", "mine");
  temp.Write("out/config.json", "old");
  temp.Write("out/sub/old", "old");
  temp.Write("out/record", "old");
  const DirectoryUse use = Over({"config.json", "sub/old", "record"}, /*keep_others=*/true);
  const auto directory = Created(out, use);
  CHECK_FALSE(directory->whole());
  for (const std::string name : {"record", "config.json", "weights", "theirs/more"}) {
    REQUIRE(directory->WriteFile(name, "new").ok());
  }
  SECTION("done") {
    REQUIRE(directory->Publish(use, {"config.json", "record"}).ok());
    for (const std::string name : {"record", "config.json", "weights", "theirs/more"}) {
      CHECK(ReadBytes(out + "/" + name) == "new");
    }
    CHECK_FALSE(stdfs::exists(out + "/sub"));
    CHECK(ReadBytes(out + "/theirs/README") == "mine");
    CHECK(std::distance(stdfs::directory_iterator(out), stdfs::directory_iterator()) == 4);
  }
  SECTION("a name that was taken meanwhile: all is as it was") {
    temp.Write("out/weights", "theirs");
    CHECK(IssueNumberOf(directory->Publish(use, {"config.json", "record"})) == kOutputExists.number);
    for (const std::string name : {"record", "config.json", "sub/old"}) CHECK(ReadBytes(out + "/" + name) == "old");
    CHECK(ReadBytes(out + "/weights") == "theirs");
    CHECK_FALSE(stdfs::exists(out + "/theirs/more"));
  }
}

TEST_CASE("an empty directory is filled, and keeps its mode") {
  const TempDir temp;
  const std::string out = temp.File("out");
  stdfs::create_directory(out);
  stdfs::permissions(out, stdfs::perms::owner_all);
  const auto directory = Created(out, Over({}));
  REQUIRE(directory->WriteFile("new", "new").ok());
  REQUIRE(directory->Publish(Over({}), {}).ok());
  CHECK(ReadBytes(out + "/new") == "new");
  CHECK(stdfs::status(out).permissions() == stdfs::perms::owner_all);
  CHECK(temp.Count() == 1);
}

TEST_CASE("an old directory that was aside when the machine stopped comes back") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("out.q4-replaced/old", "old");
  REQUIRE(AtomicDirectory::Restore(PosixFileSystem(), out).ok());
  CHECK_FALSE(stdfs::exists(out));  // it may be anybody's
  temp.Write("out.q4-replaced/.q4-replaced", "");
  REQUIRE(AtomicDirectory::Restore(PosixFileSystem(), out).ok());
  CHECK(ReadBytes(out + "/old") == "old");
  CHECK_FALSE(stdfs::exists(out + "/.q4-replaced"));
  temp.Write("out.q4-replaced/.q4-replaced", "");
  REQUIRE(AtomicDirectory::Restore(PosixFileSystem(), out).ok());
  CHECK(stdfs::exists(out + ".q4-replaced"));  // something has the name
}

TEST_CASE("an output that came meanwhile is not touched") {
  const TempDir temp;
  const auto directory = Created(temp.File("out"));
  temp.Write("out/theirs", "theirs");
  CHECK(IssueNumberOf(directory->Publish(kAbsent, {})) == kOutputExists.number);
  CHECK(ReadBytes(temp.File("out/theirs")) == "theirs");
}

TEST_CASE("a second writer is turned away and does no harm") {
  const TempDir temp;
  const auto first = Created(temp.File("out"));
  REQUIRE(first->WriteFile("a", "a").ok());
  CHECK(CreateIssue(temp.File("out")) == kOutputInUse.number);
  REQUIRE(first->Publish(kAbsent, {}).ok());
  CHECK(ReadBytes(temp.File("out/a")) == "a");
}

TEST_CASE("what a dead run left is cleared; what others made is not") {
  const TempDir temp;
  SECTION("a leftover") {
    temp.Write("out.partial/.q4-lock", "");
    temp.Write("out.partial/model.safetensors", "half");
    const auto directory = Created(temp.File("out"));
    REQUIRE(directory->Publish(kAbsent, {}).ok());
    CHECK(stdfs::is_empty(temp.File("out")));
  }
  SECTION("a foreign directory") {
    temp.Write("out.partial/thesis.txt", "text");
    CHECK(CreateIssue(temp.File("out")) == kForeignPartial.number);
    CHECK(ReadBytes(temp.File("out.partial/thesis.txt")) == "text");
  }
  SECTION("something foreign in an old output that was replaced") {
    temp.Write("out.partial/.q4-lock", "");
    temp.Write("out.partial/.q4-replaced", "");
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
  CHECK(CreateIssue(temp.File("file"), Over({})) == kOutputNotADirectory.number);
  CHECK(CreateIssue(temp.File("link"), Over({})) == kOutputNotADirectory.number);
}

TEST_CASE("of an old directory goes what its mark names, by way of no link") {
  const TempDir temp;
  const std::string root = temp.File("old");
  temp.Write("home/file", "theirs");
  temp.Write("old/a/b/file", "old");
  temp.Write("old/.q4.partial/half", "half");
  FileSystem& fs = PosixFileSystem();
  SECTION("all of it") {
    REQUIRE(MarkReplaced(fs, root, {"a/b/file", "gone"}).ok());
    CHECK(IsReplaced(fs, root));
    CHECK(RemoveReplaced(fs, root).ok());
    CHECK_FALSE(stdfs::exists(root));
  }
  SECTION("a file that is not named, a folder that is not, a link that is not") {
    const int kind = GENERATE(0, 1, 2);
    if (kind == 0) temp.Write("old/a/thesis", "text");
    if (kind == 1) stdfs::create_directory(root + "/mine");
    if (kind == 2) stdfs::create_directory_symlink(temp.File("home"), root + "/link");
    REQUIRE(MarkReplaced(fs, root, {"a/b/file"}).ok());
    CHECK(IssueNumberOf(RemoveReplaced(fs, root)) == kForeignPartial.number);
    CHECK(
        (kind == 0 ? ReadBytes(root + "/a/thesis") == "text" : stdfs::exists(root + (kind == 1 ? "/mine" : "/link"))));
    CHECK_FALSE(stdfs::exists(root + "/a/b/file"));
  }
  SECTION("a folder that is a link by now") {
    stdfs::remove_all(root + "/a");
    stdfs::create_directory_symlink(temp.File("home"), root + "/a");
    REQUIRE(MarkReplaced(fs, root, {"a/file"}).ok());
    CHECK_FALSE(RemoveReplaced(fs, root).ok());
  }
  SECTION("a name that leads out, up, or nowhere") {
    for (const std::string text : {"../home/file", "/etc/hostname", "a/../../home/file"}) {
      REQUIRE(MarkReplaced(fs, root, {text}).ok());
      CHECK(IssueNumberOf(RemoveReplaced(fs, root)) == kForeignPartial.number);
    }
    temp.Write("old/.q4-replaced", "no end");
    CHECK(IssueNumberOf(RemoveReplaced(fs, root)) == kForeignPartial.number);
  }
  CHECK(ReadBytes(temp.File("home/file")) == "theirs");
}

TEST_CASE("a directory that was exchanged while it was filled is not followed") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("home/file", "theirs");
  const auto swap = [&](const std::string& name) {
    stdfs::rename(temp.File(name), temp.File("taken"));
    stdfs::create_directory_symlink(temp.File("home"), temp.File(name));
  };
  SECTION("the partial directory") {
    auto directory = Created(out);
    REQUIRE(directory->WriteFile("a", "a").ok());
    swap("out.partial");
    CHECK(directory->WriteFile("file", "ours").ok());
    CHECK(directory->WriteFile("sub/b", "ours").ok());
    CHECK(ReadBytes(temp.File("taken/sub/b")) == "ours");
    SECTION("published: what has the name now is not it") { CHECK_FALSE(directory->Publish(kAbsent, {}).ok()); }
    directory.reset();
  }
  SECTION("the output") {
    temp.Write("out/theirs", "mine");
    const DirectoryUse use = Over({}, /*keep_others=*/true);
    auto directory = Created(out, use);
    REQUIRE(directory->WriteFile("file", "ours").ok());
    swap("out");
    CHECK(directory->Publish(use, {"file"}).ok());
    CHECK(ReadBytes(temp.File("taken/file")) == "ours");
  }
  SECTION("a folder in it") {
    const auto directory = Created(out);
    REQUIRE(directory->WriteFile("sub/a", "a").ok());
    stdfs::rename(temp.File("out.partial/sub"), temp.File("taken"));
    stdfs::create_directory_symlink(temp.File("home"), temp.File("out.partial/sub"));
    CHECK_FALSE(directory->WriteFile("sub/file2", "ours").ok());
    CHECK_FALSE(directory->OpenFile("sub/file").ok());
    CHECK_FALSE(directory->Publish(kAbsent, {}).ok());
  }
  CHECK(ReadBytes(temp.File("home/file")) == "theirs");
  CHECK(std::distance(stdfs::directory_iterator(temp.File("home")), stdfs::directory_iterator()) == 1);
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
  const DirectoryUse use =
      Over(stdfs::exists(path + "/old") ? std::vector<std::string>{"old/file"} : std::vector<std::string>{"sub/new"});
  Q4_ASSIGN_OR_RETURN(const auto directory, AtomicDirectory::Create(fs, path, use));
  Q4_RETURN_IF_ERROR(directory->WriteFile("sub/new", "new"));
  return directory->Publish(use, {});
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
      temp.Write("out.q4-replaced/.q4-replaced", std::string("old/file\0", 9));
    }
    FaultyFileSystem fs(calls, removals);
    const absl::Status status = Replace(fs, out);
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    // The error of that call, and of no later one; or another way was found.
    CHECK((IssueNumberOf(status) == kCannotWrite.number || status.ok()));
    if (!failed) CHECK(status.ok());

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

TEST_CASE("file by file, wherever process or power end: no file is half written under its name, others stay") {
  const test::AfterCrash mode =
      GENERATE(test::AfterCrash::kAll, test::AfterCrash::kSynced, test::AfterCrash::kSomething);
  const std::vector<std::string> names = {"config.json", "part/config.json", "part/weights", "record", "weights"};
  const std::vector<std::string> last = {"part/config.json", "config.json", "record"};
  std::int64_t calls = 0;
  for (bool crashed = true; crashed; ++calls) {
    const TempDir temp;
    const std::string out = temp.File("out");
    temp.Write("out/README", "mine");
    for (const std::string& name : names) temp.Write("out/" + name, "old");
    const DirectoryUse use = Over(names, /*keep_others=*/true);
    const auto publish = [&](FileSystem& fs) -> absl::Status {
      Q4_ASSIGN_OR_RETURN(const auto directory, AtomicDirectory::Create(fs, out, use));
      for (const std::string& name : names) Q4_RETURN_IF_ERROR(directory->WriteFile(name, "newer"));
      return directory->Publish(use, last);
    };
    {
      test::CrashFileSystem fs(calls);
      const absl::Status status = publish(fs);
      crashed = fs.crashed();
      CHECK((crashed || status.ok()));
      fs.Restart(mode, static_cast<std::uint32_t>(calls));
    }
    INFO("call " << calls << ", mode " << static_cast<int>(mode));
    CHECK(ReadBytes(out + "/README") == "mine");
    const auto content_of = [&](const std::string& name) {
      return stdfs::exists(out + "/" + name) ? ReadBytes(out + "/" + name) : std::string();
    };
    for (const std::string& name : names)
      CHECK((content_of(name) == "" || content_of(name) == "old" || content_of(name) == "newer"));
    // Beside the configuration of a model there is all of that model; beside that of a part, all weights.
    const std::string whole = content_of("config.json"), part = content_of("part/config.json");
    CHECK((whole.empty() || (whole == part && whole == content_of("weights") && whole == content_of("part/weights"))));
    CHECK((part.empty() || (part == content_of("weights") && part == content_of("part/weights"))));
    test::CrashFileSystem next(test::CrashFileSystem::kNever);
    CHECK(publish(next).ok());
    for (const std::string& name : names) CHECK(ReadBytes(out + "/" + name) == "newer");
    CHECK(std::distance(stdfs::directory_iterator(out), stdfs::directory_iterator()) == 5);
    CHECK(temp.Count() == 1);
  }
  CHECK(calls > 30);
}

TEST_CASE("the record of what a dead run has half published stays until another run has published") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("out/theirs", "mine");
  temp.Write("out/.q4.partial/.q4-lock", "");
  temp.Write("out/.q4.partial/record", "first");
  temp.Write("out/.q4.partial/weights", "half");
  DirectoryUse use = Over({}, /*keep_others=*/true);
  use.kept_record = "record";
  const auto kept = [&] {
    std::vector<std::string> contents;
    for (const std::string& place : test::Must(AtomicDirectory::Leftovers(PosixFileSystem(), out))) {
      if (stdfs::exists(place + "/record")) contents.push_back(ReadBytes(place + "/record"));
    }
    return contents;
  };
  CHECK(kept() == std::vector<std::string>{"first"});
  {
    const auto abandoned = Created(out, use);
    REQUIRE(abandoned->WriteFile("record", "second").ok());
    CHECK(kept() == std::vector<std::string>{"second", "first"});
  }
  CHECK(kept() == std::vector<std::string>{"first"});
  CHECK_FALSE(stdfs::exists(out + "/.q4.partial/weights"));
  {
    const auto directory = Created(out, use);
    REQUIRE(directory->WriteFile("record", "third").ok());
    SECTION("published") {
      REQUIRE(directory->Publish(use, {"record"}).ok());
      CHECK(ReadBytes(out + "/record") == "third");
      CHECK(std::distance(stdfs::directory_iterator(out), stdfs::directory_iterator()) == 2);
    }
    SECTION("a name that is taken") {
      temp.Write("out/record", "theirs");
      CHECK(IssueNumberOf(directory->Publish(use, {"record"})) == kOutputExists.number);
    }
  }
  if (stdfs::exists(out + "/.q4.partial")) {
    CHECK(kept() == std::vector<std::string>{"first"});
    // Nothing of it lies there any more: the record goes as everything else does.
    { const auto directory = Created(out, Over({}, /*keep_others=*/true)); }
    CHECK(kept().empty());
    CHECK(std::distance(stdfs::directory_iterator(out), stdfs::directory_iterator()) == 2);
  }
}

TEST_CASE("what a run left that published in another place goes with the next publication") {
  const TempDir temp;
  const std::string out = temp.File("out");
  temp.Write("out/theirs", "mine");
  temp.Write("out.partial/.q4-lock", "");
  temp.Write("out.partial/weights", "half");
  const DirectoryUse use = Over({}, /*keep_others=*/true);
  const auto directory = Created(out, use);
  REQUIRE(directory->WriteFile("weights", "new").ok());
  REQUIRE(directory->Publish(use, {}).ok());
  CHECK(temp.Count() == 1);
}

}  // namespace
}  // namespace q4
