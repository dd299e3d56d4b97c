#include "formats/source/companions.h"

#include <sys/stat.h>

#include <algorithm>
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

absl::StatusOr<std::vector<CompanionFile>> Find(const TempDir& dir, SymbolicLinks links = SymbolicLinks::kRefuse) {
  return FindCompanions(PosixFileSystem(), dir.path(), links);
}

std::vector<std::string> Names(const TempDir& dir) {
  const auto found = Find(dir);
  REQUIRE(found.ok());
  std::vector<std::string> names;
  for (const CompanionFile& companion : *found) names.push_back(companion.name);
  return names;
}

TEST_CASE("which names are companions") {
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                           "special_tokens_map.json", "preprocessor_config.json", "vocab.txt", "merges.txt",
                           "tokenizer.model", "spiece.model", "chat_template.jinja", "qwen.tiktoken", "README.md",
                           "README", "LICENSE", "LICENSE.txt", "LICENSE-APACHE", "NOTICE", "USE_POLICY.md"}) {
    INFO(name);
    CHECK(IsCompanionName(name));
  }
  for (const char* name : {"",
                           ".gitattributes",
                           ".config.json",
                           "model.safetensors",
                           "pytorch_model.bin",
                           "m.pt",
                           "m.pth",
                           "m.ckpt",
                           "m.gguf",
                           "tf_model.h5",
                           "flax_model.msgpack",
                           "m.onnx",
                           "m.q4",
                           "model.safetensors.index.json",
                           "pytorch_model.bin.index.json",
                           "modeling_x.py",
                           "lib.so",
                           "LICENSE.py",
                           "image.png",
                           "train.log",
                           "config.JSON"}) {
    INFO(name);
    CHECK_FALSE(IsCompanionName(name));
  }
}

TEST_CASE("companions come sorted, with path and size; nothing but regular files") {
  const TempDir dir;
  dir.Write("tokenizer.json", "12345");
  dir.Write("config.json", "{}");
  dir.Write("model.safetensors", "x");
  dir.Write("sub/config.json", "{}");
  std::filesystem::create_directory(dir.File("dir.json"));
  REQUIRE(::mkfifo(dir.File("fifo.json").c_str(), 0600) == 0);
  CHECK(Names(dir) == std::vector<std::string>{"config.json", "tokenizer.json"});
  const auto found = Find(dir);
  CHECK((*found)[1].path == dir.File("tokenizer.json"));
  CHECK((*found)[1].size == 5);
}

TEST_CASE("sentence-transformers modules bring their config.json") {
  const TempDir dir;
  dir.Write("modules.json",
            R"([{"idx":0,"path":"","type":"t"},{"idx":1,"path":"1_Pooling"},{"idx":2,"path":"2_Normalize"}])");
  dir.Write("1_Pooling/config.json", "{}");
  dir.Write("1_Pooling/other.json", "{}");
  dir.Write("9_Unlisted/config.json", "{}");
  CHECK(Names(dir) == std::vector<std::string>{"1_Pooling/config.json", "modules.json"});
}

TEST_CASE("a file would be a companion exactly if it is one once it is there") {
  struct Case {
    std::string main;
    bool is_index;
    std::vector<std::string> present;
  };
  const std::string modules = R"([{"path":""},{"path":"1_Pooling"}])";
  const std::vector<std::string> names = {"report.json",     "config.json",           "report.html",
                                          "modules.json",    "1_Pooling/config.json", "1_Pooling/report.json",
                                          "2_X/config.json", "x.index.json",          "LICENSE"};
  for (const Case& c :
       {Case{"model.safetensors", false, {}}, Case{"download.safetensors", false, {}},
        Case{"download.safetensors", false, {"config.json"}}, Case{"x.index.json", true, {}},
        Case{"download.safetensors", false, {"modules.json"}}, Case{"model.safetensors", false, {"modules.json"}}}) {
    for (const std::string& name : names) {
      INFO(c.main << " with " << c.present.size() << " files, and " << name);
      const TempDir dir;
      std::filesystem::create_directory(dir.File("1_Pooling"));
      std::filesystem::create_directory(dir.File("2_X"));
      for (const std::string& file : c.present) dir.Write(file, file == "modules.json" ? modules : "{}");
      const MainFile main{dir.Write(c.main, "{}"), {}, c.is_index};
      const auto would = WouldBeCompanion(PosixFileSystem(), main, dir.File("./" + name));
      REQUIRE(would.ok());
      if (!std::filesystem::exists(dir.File(name))) dir.Write(name, name == "modules.json" ? modules : "{}");
      const auto found = CompanionsOf(PosixFileSystem(), main, SymbolicLinks::kRefuse);
      REQUIRE(found.ok());
      const bool is_one =
          std::any_of(found->begin(), found->end(), [&](const auto& file) { return file.name == name; });
      CHECK(*would == is_one);
      const TempDir elsewhere;
      CHECK_FALSE(*WouldBeCompanion(PosixFileSystem(), main, elsewhere.File(name)));
    }
  }
}

TEST_CASE("links are refused unless they are followed") {
  const TempDir dir;
  const TempDir outside;
  outside.Write("secret", "abc");
  std::filesystem::create_symlink(outside.File("secret"), dir.File("config.json"));
  CHECK(IssueNumberOf(Find(dir).status()) == kSymbolicLink.number);
  REQUIRE(Find(dir, SymbolicLinks::kFollow).ok());
  CHECK((*Find(dir, SymbolicLinks::kFollow))[0].size == 3);
  std::filesystem::remove(outside.File("secret"));
  CHECK(IssueNumberOf(Find(dir, SymbolicLinks::kFollow).status()) == kNotARegularFile.number);
  std::filesystem::remove(dir.File("config.json"));

  outside.Write("m/config.json", "{}");
  dir.Write("modules.json", R"([{"path":"m"}])");
  std::filesystem::create_symlink(outside.File("m"), dir.File("m"));
  CHECK(IssueNumberOf(Find(dir).status()) == kSymbolicLink.number);
  CHECK(Find(dir, SymbolicLinks::kFollow)->size() == 2);
}

TEST_CASE("number and size are limited") {
  const TempDir dir;
  const std::string big = dir.Write("tokenizer.json", "");
  std::filesystem::resize_file(big, limits::kEmbeddedFileBytes + 1);  // sparse
  CHECK(IssueNumberOf(Find(dir).status()) == kCompanionTooLarge.number);
  std::filesystem::remove(big);
  for (std::uint64_t i = 0; i < limits::kEmbeddedFiles; ++i) dir.Write(std::to_string(i) + ".json", "");
  CHECK(Find(dir)->size() == limits::kEmbeddedFiles);
  dir.Write("one_more.json", "");
  CHECK(IssueNumberOf(Find(dir).status()) == kTooManyCompanions.number);
}

}  // namespace
}  // namespace q4
