// Every way of publishing a directory, with each of its calls failing in turn: an error that nobody hears of is one
// that publishing can do without, and those are listed here. They are looks at what dead runs may have left in other
// places, in a directory above that may be closed to us; exchanges and renames behind which there is another way; and
// the removal of a directory of the user's that has become empty.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_directory.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::ReadBytes;
using test::TempDir;

// What many file systems lack.
struct Lacks {
  bool exchanges = false, locks = false;
  bool moves = false;    // a directory in which a file is open gets no other name
  bool crosses = false;  // the destination is a mount point: nothing is renamed into it
};

class PoorFileSystem final : public test::ForwardingFileSystem {
 public:
  explicit PoorFileSystem(const Lacks& lacks) : exchanges_(!lacks.exchanges), locks_(!lacks.locks), lacks_(lacks) {}
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    const bool moves = BaseNameOf(from) == "out.partial";
    const bool crosses = BaseNameOf(DirectoryOf(from)) == "out.partial" && BaseNameOf(DirectoryOf(to)) == "out";
    if ((moves && lacks_.moves) || (crosses && lacks_.crosses)) return Fail(kCannotRename, to, {}, "Device or so busy");
    return ForwardingFileSystem::Rename(from, to, replace);
  }
  absl::Status Exchange(const std::string& a, const std::string& b) override {
    return exchanges_ ? ForwardingFileSystem::Exchange(a, b) : Fail(kCannotRename, a, {}, "Function not implemented");
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    if (!locks_) return Fail(kCannotLock, path, {}, "Function not implemented");
    return ForwardingFileSystem::OpenLocked(path);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    Q4_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::CreateExclusive(path));
    if (locks_) return file;
    return std::make_unique<Unlocked>(std::move(file));
  }

 private:
  class Unlocked final : public test::ForwardingWritableFile {
   public:
    using ForwardingWritableFile::ForwardingWritableFile;
    bool locked() const override { return false; }
  };
  const bool exchanges_, locks_;
  const Lacks lacks_;
};

struct Way {
  std::string name = {};
  Lacks lacks = {};
  DirectoryUse use = {};
  std::vector<std::string> last = {};
  std::function<void(const TempDir&)> prepare = {};  // what lies there before
  std::string unheard = {};  // calls whose failure is no error, sorted, a comma between them; one for each time
};

DirectoryUse Resumed(DirectoryUse use) {
  use.resumes = true;
  return use;
}

DirectoryUse Use(std::vector<std::string> ours, bool keep_others, std::string kept_record = "") {
  return {
      .may_exist = true, .ours = std::move(ours), .keep_others = keep_others, .kept_record = std::move(kept_record)};
}

void LeaveOld(const TempDir& temp) {
  temp.Write("out/config.json", "old");
  temp.Write("out/sub/old", "old");
}

void LeaveReplaced(const TempDir& temp) {
  temp.Write("out.q4-replaced/old/file", "older");
  temp.Write("out.q4-replaced/.q4-lock", "");
  temp.Write("out.q4-replaced/.q4-replaced", std::string("old/file\0", 9));
}

void LeaveDeadRuns(const TempDir& temp) {
  temp.Write("out.partial/.q4-lock", "");
  temp.Write("out.partial/sub/half", "half");
  LeaveReplaced(temp);
}

// `whole`: whether Create() found that the directory can appear in one instant; where it meets an error it goes another
// way.
absl::Status PublishTo(FileSystem& fs, const std::string& path, const Way& way, bool* whole) {
  Q4_ASSIGN_OR_RETURN(const auto directory, AtomicDirectory::Create(fs, path, way.use));
  *whole = directory->whole();
  Q4_RETURN_IF_ERROR(directory->WriteFile("config.json", "new"));
  Q4_RETURN_IF_ERROR(directory->WriteFile("sub/new", "new"));
  return directory->Publish(way.use, way.last);
}

// "ListDirectory ." for the directory above, whose name is another one every time.
std::string CallIn(const test::FaultyFileSystem& fs, const TempDir& temp) {
  std::string call = fs.failed_call();
  const std::size_t above = call.find(BaseNameOf(temp.path()));
  if (above != std::string::npos) call.replace(above, std::string::npos, ".");
  return call;
}

std::vector<Way> Ways() {
  const std::vector<std::string> ours = {"config.json", "sub/old"};
  return {
      {.name = "new",
       .prepare = [](const TempDir&) {},
       .unheard = "ListDirectory ., Stat out.partial, Stat out.q4-replaced"},
      {.name = "over an old one, changing places",
       .use = Use(ours, false),
       .prepare = LeaveOld,
       .unheard =
           "Exchange out.partial, Exchange out.partial, ListDirectory ., Stat out.partial, Stat out.q4-replaced, "
           "Stat out.q4-replaced"},
      {.name = "over an old one that steps aside",
       .lacks = {.exchanges = true},
       .use = Use(ours, false),
       .prepare = LeaveOld,
       .unheard = "Exchange out.partial, Exchange out.partial, ListDirectory ., Rename out, Stat .q4-replaced, "
                  "Stat out.partial, Stat out.q4-replaced, Stat out.q4-replaced, Stat out.q4-replaced"},
      {.name = "into an empty one",
       .use = Use({}, false),
       .prepare = [](const TempDir& temp) { stdfs::create_directory(temp.File("out")); },
       .unheard = "Exchange out.partial, ListDirectory ., Rename out.partial, Stat out.partial, Stat out.q4-replaced, "
                  "Stat out.q4-replaced"},
      {.name = "file by file",
       .use = Use(ours, true),
       .last = {"config.json"},
       .prepare = LeaveOld,
       .unheard = "ListDirectory ., RemoveDirectory sub, Stat .q4.partial"},
      {.name = "file by file, without locks",
       .lacks = {.locks = true},
       .use = Use(ours, true),
       .last = {"config.json"},
       .prepare = LeaveOld,
       .unheard = "ListDirectory ., RemoveDirectory sub, Stat .q4.partial"},
      {.name = "after dead runs",
       .use = Use(ours, false),
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             LeaveDeadRuns(temp);
           },
       .unheard = "Exchange out.partial, Exchange out.partial, ListDirectory ., Stat .q4-replaced, Stat .q4-replaced, "
                  "Stat out.partial, Stat out.q4-replaced"},
      {.name = "after dead runs, stepping aside",
       .lacks = {.exchanges = true},
       .use = Use(ours, false),
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             LeaveDeadRuns(temp);
             temp.Write("out.partial.q4-probe/.q4-lock", "");
           },
       .unheard = "Exchange out.partial, Exchange out.partial, ListDirectory ., Rename out, Stat .q4-replaced, "
                  "Stat .q4-replaced, Stat .q4-replaced, Stat out.partial, Stat out.q4-replaced, Stat out.q4-replaced"},
      {.name = "after a dead run that stepped aside",
       .use = Use(ours, false),
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             LeaveReplaced(temp);
           },
       .unheard = "Exchange out.partial, Exchange out.partial, ListDirectory ., Stat .q4-replaced, "
                  "Stat out.partial, Stat out.q4-replaced, Stat out.q4-replaced"},
      {.name = "new, where directories in use cannot be renamed",
       .lacks = {.moves = true},
       .prepare = [](const TempDir&) {},
       .unheard = "ListDirectory ., Stat .q4.partial, Stat out.partial"},
      // Whatever fails of the way that is tried first, the other one is taken; but not before what it made is gone.
      {.name = "over an old one that is a mount point",
       .lacks = {.crosses = true},
       .use = Use(ours, false),
       .last = {"config.json"},
       .prepare = LeaveOld,
       .unheard = "CheckOurs out.partial, CreateDirectory out.partial, CreateDirectory out.partial.q4-probe, "
                  "CreateExclusive .q4-probe, Exchange out.partial, Exchange out.partial, ListDirectory ., "
                  "ListDirectory out.partial, ListDirectory out.partial, OpenLocked .q4-lock, "
                  "Remove .q4-probe, RemoveDirectory out.partial.q4-probe, RemoveDirectory sub, "
                  "Rename .q4-probe, Stat .q4-probe, Stat .q4.partial, Stat out.partial, Stat out.partial, "
                  "Stat out.partial, Stat out.partial, Stat out.partial, Stat out.partial, Stat out.partial, "
                  "Stat out.partial.q4-probe, Stat out.q4-replaced, Sync .q4-probe, SyncDirectory ., "
                  "SyncDirectory out.partial"},
      {.name = "over an old one that is a mount point, with a record",
       .lacks = {.crosses = true},
       .use = Use(ours, false, "record"),
       .last = {"config.json"},
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             temp.Write("out.partial/.q4-lock", "");
             temp.Write("out.partial/half", "half");
           },
       .unheard = "CheckOurs out.partial, CheckOurs out.partial, CreateDirectory out.partial, "
                  "CreateExclusive .q4-probe, ListDirectory ., ListDirectory out.partial, "
                  "ListDirectory out.partial, ListDirectory out.partial, OpenLocked .q4-lock, "
                  "OpenLocked .q4-lock, Remove .q4-probe, Remove half, RemoveDirectory sub, Rename .q4-probe, "
                  "Stat .q4-left, Stat .q4-probe, Stat .q4-replaced, Stat .q4-replaced, Stat .q4.partial, "
                  "Stat half, Stat out.partial, Stat out.partial, Stat out.partial, Stat out.partial, "
                  "Stat out.partial, Stat out.partial, Stat out.partial, Stat out.partial, Stat out.partial, "
                  "Stat out.partial.q4-probe, Stat record, Sync .q4-probe, SyncDirectory ., "
                  "SyncDirectory out.partial"},
      {.name = "by a run that resumes",
       .use = Resumed({}),
       .prepare =
           [](const TempDir& temp) {
             temp.Write("out.partial/.q4-lock", "");
             temp.Write("out.partial/config.json", "half");
             temp.Write("out.partial/sub/other", "half");
             temp.Write("out.partial/more/half", "half");
           },
       .unheard = "ListDirectory ., Stat .q4-replaced, Stat out.partial, Stat out.q4-replaced"},
      {.name = "file by file, by a run that resumes",
       .use = Resumed(Use(ours, true)),
       .last = {"config.json"},
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             temp.Write("out/.q4.partial/.q4-lock", "");
             temp.Write("out/.q4.partial/.q4-probe", "");
             temp.Write("out/.q4.partial/sub/half", "half");
           },
       .unheard = "ListDirectory ., RemoveDirectory sub, Stat .q4-replaced, Stat .q4.partial"},
      {.name = "after a run whose record is kept",
       .use = Use(ours, true, "record"),
       .last = {"config.json"},
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             temp.Write("out/.q4.partial/.q4-lock", "");
             temp.Write("out/.q4.partial/record", "first");
             temp.Write("out/.q4-probe", "");
             temp.Write("out.partial/.q4-lock", "");
           },
       .unheard = "CheckOurs out.partial, ListDirectory ., ListDirectory out.partial, OpenLocked .q4-lock, "
                  "RemoveDirectory sub, Stat .q4-left, Stat .q4-replaced, Stat .q4-replaced, Stat .q4.partial, "
                  "Stat out.partial, Stat out.partial"},
  };
}

TEST_CASE("whichever call of publishing fails, it is said, unless publishing can do without") {
  for (const Way& way : Ways()) {
    std::multiset<std::string> unheard;
    bool whole_at_best = false;
    {
      const TempDir temp;
      way.prepare(temp);
      PoorFileSystem poor(way.lacks);
      REQUIRE(PublishTo(poor, temp.File("out"), way, &whole_at_best).ok());
    }
    std::int64_t calls = 0;
    for (bool failed = true; failed; ++calls) {
      const TempDir temp;
      way.prepare(temp);
      PoorFileSystem poor(way.lacks);
      test::FaultyFileSystem fs(calls, test::Removals::kCanFail, poor);
      bool whole = false;
      const absl::Status status = PublishTo(fs, temp.File("out"), way, &whole);
      INFO(way.name << ", call " << calls << ", " << fs.failed_call() << ": " << status.message());
      failed = fs.failed();
      if (!failed) REQUIRE(status.ok());
      // The error of that call. Where it was the look at what is in the way, that is: in the way.
      CHECK((status.ok() || IssueNumberOf(status) == kCannotWrite.number || fs.failed_call().starts_with("Stat ")));
      if (status.ok()) {
        if (failed && whole == whole_at_best) unheard.insert(CallIn(fs, temp));
        CHECK(ReadBytes(temp.File("out/config.json")) == "new");
        CHECK(ReadBytes(temp.File("out/sub/new")) == "new");
      }
    }
    INFO(way.name << ": " << calls - 1 << " calls");
    CHECK(absl::StrJoin(unheard, ", ") == way.unheard);
  }
}

TEST_CASE("whichever call fails while an old directory gets its name back, it is said, unless that is not known") {
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    const TempDir temp;
    LeaveReplaced(temp);
    test::FaultyFileSystem fs(calls, test::Removals::kCanFail);
    const absl::Status status = AtomicDirectory::Restore(fs, temp.File("out"));
    failed = fs.failed();
    INFO(fs.failed_call() << ": " << status.message());
    const bool is_look = fs.failed_call() == "Stat out.q4-replaced" || fs.failed_call() == "Stat .q4-replaced";
    CHECK(status.ok() == (!failed || is_look));
    if (!failed) CHECK(ReadBytes(temp.File("out/old/file")) == "older");
  }
}

TEST_CASE("what is in the way of a file's probe, of a folder or of records is not ours") {
  const auto issue_of = [](const TempDir& temp, const DirectoryUse& use) {
    return IssueNumberOf(AtomicDirectory::Create(PosixFileSystem(), temp.File("out"), use).status());
  };
  {
    const TempDir temp;
    LeaveOld(temp);
    temp.Write("out/.q4-probe", "somebody's");
    CHECK(issue_of(temp, Use({"config.json"}, true)) == kForeignPartial.number);
    CHECK(ReadBytes(temp.File("out/.q4-probe")) == "somebody's");
  }
  {
    const TempDir temp;
    temp.Write("out.partial.q4-probe", "somebody's");
    CHECK(issue_of(temp, {}) == kForeignPartial.number);
  }
  {
    const TempDir temp;
    LeaveOld(temp);
    temp.Write("out/.q4.partial/.q4-lock", "");
    temp.Write("out/.q4.partial/record", "first");
    temp.Write("out/.q4.partial/.q4-left", "no directory");
    CHECK(issue_of(temp, Use({"config.json"}, true, "record")) == kOutputExists.number);
  }
  const TempDir temp;
  const auto directory = AtomicDirectory::Create(PosixFileSystem(), temp.File("out"), {});
  REQUIRE(directory.ok());
  CHECK((*directory)->WriteFile("a", "a").ok());
  CHECK(IssueNumberOf((*directory)->WriteFile("a/b", "b")) == kOutputExists.number);
}

TEST_CASE("without locks nobody can tell a run that died from one that is at work") {
  const TempDir temp;
  LeaveOld(temp);
  temp.Write("out/.q4.0123.partial/.q4-lock", "");
  PoorFileSystem poor({.locks = true});
  CHECK(IssueNumberOf(AtomicDirectory::Create(poor, temp.File("out"), Use({"config.json"}, true)).status()) ==
        kOutputInUse.number);
}

}  // namespace
}  // namespace q4
