#include "formats/publish/input_files.h"

#include <filesystem>
#include <string>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::TempDir;

struct Inputs {
  TempDir dir;
  InputFiles files;
  Inputs() {
    dir.Write("model/weights", "w");
    dir.Write("other/file", "o");
    files.Add(PosixFileSystem(), dir.File("model/weights"));
    files.Add(PosixFileSystem(), dir.File("absent"));
    files.Add(PosixFileSystem(), "");
  }
  int Names(const std::string& name) const {
    return IssueNumberOf(files.CheckNames(PosixFileSystem(), {dir.File("absent"), dir.File(name)}, kOutputExists));
  }
  int Trees(const std::string& name) const {
    return IssueNumberOf(files.CheckTrees(PosixFileSystem(), {dir.File(name)}, kOutputExists));
  }
};

TEST_CASE("an input is known by every name that it has") {
  const Inputs inputs;
  stdfs::create_hard_link(inputs.dir.File("model/weights"), inputs.dir.File("hard"));
  stdfs::create_symlink("model/weights", inputs.dir.File("soft"));
  for (const char* name : {"model/weights", "model/../model/weights", "hard", "soft"}) {
    CHECK(inputs.Names(name) == kOutputExists.number);
  }
  CHECK(inputs.Names("other/file") == 0);
  CHECK(inputs.Names("absent too") == 0);
}

TEST_CASE("an input anywhere below a directory that may be cleared is found, and by way of no link") {
  const Inputs inputs;
  stdfs::create_directories(inputs.dir.File("a/b/c"));
  CHECK(inputs.Trees("a") == 0);
  stdfs::create_symlink("../../model", inputs.dir.File("a/b/link"));
  CHECK(inputs.Trees("a") == 0);  // clearing removes the link alone
  stdfs::create_directory_symlink("model", inputs.dir.File("link"));
  CHECK(inputs.Trees("link") == 0);
  stdfs::create_hard_link(inputs.dir.File("model/weights"), inputs.dir.File("a/b/c/hard"));
  CHECK(inputs.Trees("a") == kOutputExists.number);
  CHECK(inputs.Trees("model") == kOutputExists.number);
  CHECK(inputs.Trees("other") == 0);
}

TEST_CASE("a look that fails is an error, and no permission") {
  const Inputs inputs;
  for (std::int64_t call = 0; call < 3; ++call) {
    test::FaultyFileSystem fs(call);
    const absl::Status status = inputs.files.CheckTrees(fs, {inputs.dir.File("other")}, kOutputExists);
    // What cannot be listed cannot be cleared.
    CHECK(IssueNumberOf(status) == (fs.failed_call() == "ListDirectory other" ? 0 : kCannotWrite.number));
  }
}

}  // namespace
}  // namespace q4
