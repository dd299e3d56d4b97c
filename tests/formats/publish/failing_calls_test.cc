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
class PoorFileSystem final : public test::ForwardingFileSystem {
 public:
  PoorFileSystem(bool exchanges, bool locks) : exchanges_(exchanges), locks_(locks) {}
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
};

struct Way {
  std::string name = {};
  bool exchanges = true, locks = true;
  DirectoryUse use = {};
  std::vector<std::string> last = {};
  std::function<void(const TempDir&)> prepare = {};  // what lies there before
  std::string unheard = {};  // calls whose failure is no error, sorted, a comma between them; one for each time
};

DirectoryUse Use(std::vector<std::string> ours, bool keep_others, std::string kept_record = "") {
  return {
      .may_exist = true, .ours = std::move(ours), .keep_others = keep_others, .kept_record = std::move(kept_record)};
}

void LeaveOld(const TempDir& temp) {
  temp.Write("out/config.json", "old");
  temp.Write("out/sub/old", "old");
}

void LeaveDeadRuns(const TempDir& temp) {
  temp.Write("out.partial/.q4-lock", "");
  temp.Write("out.partial/sub/half", "half");
  temp.Write("out.q4-replaced/old/file", "older");
  temp.Write("out.q4-replaced/.q4-lock", "");
  temp.Write("out.q4-replaced/.q4-replaced", std::string("old/file\0", 9));
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
       .exchanges = false,
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
       .locks = false,
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
       .exchanges = false,
       .use = Use(ours, false),
       .prepare =
           [](const TempDir& temp) {
             LeaveOld(temp);
             LeaveDeadRuns(temp);
             temp.Write("out.partial.q4-probe/.q4-lock", "");
           },
       .unheard = "Exchange out.partial, Exchange out.partial, ListDirectory ., Rename out, Stat .q4-replaced, "
                  "Stat .q4-replaced, Stat .q4-replaced, Stat out.partial, Stat out.q4-replaced, Stat out.q4-replaced"},
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
      PoorFileSystem poor(way.exchanges, way.locks);
      REQUIRE(PublishTo(poor, temp.File("out"), way, &whole_at_best).ok());
    }
    std::int64_t calls = 0;
    for (bool failed = true; failed; ++calls) {
      const TempDir temp;
      way.prepare(temp);
      PoorFileSystem poor(way.exchanges, way.locks);
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

}  // namespace
}  // namespace q4
