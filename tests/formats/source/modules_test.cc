#include "formats/source/modules.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::TempDir;
using Folders = std::vector<std::string>;

absl::StatusOr<Folders> Find(const TempDir& dir, SymbolicLinks links = SymbolicLinks::kRefuse) {
  return ModuleFolders(PosixFileSystem(), dir.path(), links);
}

int IssueOf(const TempDir& dir) { return IssueNumberOf(Find(dir).status()); }

void MakeFolders(const TempDir& dir, const Folders& folders) {
  for (const std::string& folder : folders) std::filesystem::create_directories(dir.File(folder));
}

TEST_CASE("a directory without modules.json has no module folders") {
  const TempDir dir;
  MakeFolders(dir, {"2_Dense"});
  CHECK(*Find(dir) == Folders{});
  std::filesystem::create_directory(dir.File("modules.json"));
  CHECK(*Find(dir) == Folders{});
}

TEST_CASE("module folders are those that are listed and there, each once") {
  const TempDir dir;
  MakeFolders(dir, {"0_Transformer", "2_Dense", "deep/er", "9_Unlisted"});
  dir.Write("modules.json", R"([{"path":"2_Dense/"},{"path":""},{"path":"./deep//er"},{"path":"3_Normalize"},
                                {"path":"0_Transformer"},{"path":"2_Dense"},{"path":"."}])");
  CHECK(*Find(dir) == Folders{"0_Transformer", "2_Dense", "deep/er"});
}

TEST_CASE("a Router's modules lie in its folder, whatever the depth") {
  const TempDir dir;
  MakeFolders(dir, {"1_Router/a_Dense", "1_Router/b_Router/c_Dense", "1_Router/other", "q_Dense"});
  dir.Write("modules.json", R"([{"path":""},{"path":"1_Router"}])");
  // At the top, where an input module is saved.
  dir.Write("router_config.json", R"({"types":{"q_Dense":"t"},"structure":{"query":["q_Dense"]}})");
  dir.Write("1_Router/router_config.json", R"({"types":{"a_Dense":"t","b_Router":"t"},"structure":{}})");
  // Older versions call the file config.json.
  dir.Write("1_Router/b_Router/config.json", R"({"types":{"c_Dense":"t"},"structure":{}})");
  CHECK(*Find(dir) ==
        Folders{"1_Router", "1_Router/a_Dense", "1_Router/b_Router", "1_Router/b_Router/c_Dense", "q_Dense"});
}

TEST_CASE("a config.json is a Router's only if it has both lists, and may be anything else") {
  for (const char* config : {R"({"types":{"x":"t"}})", R"({"types":{"x":"t"},"structure":1})", "[", "{\"a\":Infinity}",
                             R"({"types":["x"],"structure":{}})", R"({"in_features":3})"}) {
    INFO(config);
    const TempDir dir;
    MakeFolders(dir, {"m/x"});
    dir.Write("modules.json", R"([{"path":"m"}])");
    dir.Write("m/config.json", config);
    CHECK(*Find(dir) == Folders{"m"});
  }
}

TEST_CASE("lists of modules cannot lead elsewhere") {
  const TempDir dir;
  MakeFolders(dir, {"m"});
  for (const char* modules :
       {R"([{"path":"../x"}])", R"([{"path":"/etc"}])", R"([{"path":"m/../../x"}])", R"([{"path":"m/.."}])",
        R"([{"path":".git"}])", R"([{"path":"m/.git"}])", R"([{"path":"C:x"}])", R"([{"path":"..\\x"}])",
        R"([{"path":"m\u0000"}])", R"([{"path":1}])", R"([{}])", R"([1])", R"({})", R"(1)", R"("m")"}) {
    INFO(modules);
    dir.Write("modules.json", modules);
    CHECK(IssueOf(dir) == kModulesForm.number);
    CHECK(ExitCodeOf(Find(dir).status()) == ExitCode::kInvalidInput);
  }
  dir.Write("modules.json", "[");
  CHECK(IssueOf(dir) == kJsonSyntax.number);

  dir.Write("modules.json", R"([{"path":"m"}])");
  for (const char* router : {R"({"types":{"../x":"t"},"structure":{}})", R"({"types":{"/etc":"t"},"structure":{}})",
                             R"({"types":[],"structure":{}})", R"({"types":{}})", R"([])"}) {
    INFO(router);
    dir.Write("m/router_config.json", router);
    CHECK(IssueOf(dir) == kRouterForm.number);
  }
  dir.Write("m/router_config.json", "{");
  CHECK(IssueOf(dir) == kJsonSyntax.number);
}

TEST_CASE("a module's path that is no folder is refused") {
  const TempDir dir;
  dir.Write("2_Dense", "a file");
  for (const char* path : {"2_Dense", "2_Dense/deeper"}) {
    dir.Write("modules.json", std::string(R"([{"path":")") + path + R"("}])");
    CHECK(IssueOf(dir) == kModulesForm.number);
  }
  REQUIRE(::mkfifo(dir.File("fifo").c_str(), 0600) == 0);
  dir.Write("modules.json", R"([{"path":"fifo"}])");
  CHECK(IssueOf(dir) == kModulesForm.number);
}

TEST_CASE("a list that is a link into nothing is refused unless links are followed") {
  const TempDir dir;
  std::filesystem::create_symlink("none.json", dir.File("modules.json"));
  const auto folders = [&](SymbolicLinks links) { return ModuleFolders(PosixFileSystem(), dir.path(), links); };
  CHECK(IssueNumberOf(folders(SymbolicLinks::kRefuse).status()) == kSymbolicLink.number);
  REQUIRE(folders(SymbolicLinks::kFollow).ok());
  CHECK(folders(SymbolicLinks::kFollow)->empty());
}

TEST_CASE("links to module folders are refused unless they are followed") {
  const TempDir outside;
  MakeFolders(outside, {"m/inner"});
  for (const char* path : {"m", "m/inner"}) {
    const TempDir dir;
    std::filesystem::create_symlink(outside.File("m"), dir.File("m"));
    dir.Write("modules.json", std::string(R"([{"path":")") + path + R"("}])");
    CHECK(IssueOf(dir) == kSymbolicLink.number);
    CHECK(*Find(dir, SymbolicLinks::kFollow) == Folders{path});
  }
  // A folder that holds itself: the names grow, and the count ends it.
  const TempDir loop;
  MakeFolders(loop, {"m"});
  std::filesystem::create_symlink(".", loop.File("m/m"));
  loop.Write("modules.json", R"([{"path":"m"}])");
  loop.Write("m/router_config.json", R"({"types":{"m":"t"},"structure":{}})");
  CHECK(IssueOf(loop) == kSymbolicLink.number);
  const absl::Status endless = Find(loop, SymbolicLinks::kFollow).status();
  CHECK_FALSE(endless.ok());

  const TempDir listed;
  outside.Write("list", "[]");
  std::filesystem::create_symlink(outside.File("list"), listed.File("modules.json"));
  CHECK(IssueOf(listed) == kSymbolicLink.number);
}

TEST_CASE("module folders are counted, whether they are there or not") {
  const auto modules = [](std::uint64_t count) {
    std::string text = "[";
    for (std::uint64_t i = 0; i < count; ++i)
      text += (i == 0 ? "" : ",") + ("{\"path\":\"m" + std::to_string(i)) + "\"}";
    return text + "]";
  };
  const TempDir dir;
  dir.Write("modules.json", modules(limits::kModuleFolders));
  CHECK(*Find(dir) == Folders{});
  dir.Write("modules.json", modules(limits::kModuleFolders + 1));
  CHECK(IssueOf(dir) == kTooManyModules.number);
}

TEST_CASE("a name belongs to the longest folder that it begins with") {
  const Folders folders = {"0_Router", "0_Router/q_Dense", "2_Dense"};
  CHECK(ModuleFolderOf(folders, "2_Dense/linear.weight") == "2_Dense");
  CHECK(ModuleFolderOf(folders, "0_Router/q_Dense/linear.weight") == "0_Router/q_Dense");
  CHECK(ModuleFolderOf(folders, "0_Router/q_Dense2/w") == "0_Router");
  CHECK(ModuleFolderOf(folders, "0_Router/a/b") == "0_Router");
  for (const char* name : {"", "2_Dense", "2_Dense.weight", "2_Dense2/w", "/2_Dense/w", "1/2_Dense/w", "encoder.w"}) {
    INFO(name);
    CHECK(ModuleFolderOf(folders, name) == "");
  }
  CHECK(ModuleFolderOf({}, "2_Dense/w") == "");
}

TEST_CASE("a folder that a container names, whoever wrote it, is one that an export may make") {
  for (const char* name : {"2_Dense", "0_Router/q_Dense", "Dense (2)"}) {
    INFO(name);
    CHECK(IsModuleFolder(name));
  }
  for (const char* name : {"",
                           ".",
                           "..",
                           "../x",
                           "/x",
                           "x/",
                           "x//y",
                           ".git",
                           "x/.git/y",
                           "NUL",
                           "x/con",
                           "a.partial",
                           "model.safetensors",
                           "caf\xc3\xa9",
                           "x\xe2\x80\xae",
                           "-x",
                           "x ",
                           "C:x",
                           "x\\y",
                           "a/b/c/d/e/f/g/h"}) {
    INFO(name);
    CHECK_FALSE(IsModuleFolder(name));
  }
}

}  // namespace
}  // namespace q4
