// The rule of names against the table that q4ref.py is held against too, and against the files that converters carry.
#include "formats/q4/file_names.h"

#include <charconv>
#include <fstream>
#include <string>
#include <vector>

#include "formats/folder/companion_kinds.h"
#include "formats/names/portable_names.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

struct NameLine {
  std::string kind;
  std::vector<std::string> names;
};

// "\x1b" and "\n" of testdata/names/embedded.txt are bytes, and '|' parts the names of a set.
std::vector<NameLine> NameLines() {
  std::ifstream file(Q4_TESTDATA "/names/embedded.txt");
  std::vector<NameLine> lines;
  for (std::string text; std::getline(file, text);) {
    if (text.starts_with('#')) continue;
    const std::size_t space = text.find(' ');
    NameLine line{text.substr(0, space), {""}};
    const std::string rest = space == std::string::npos ? "" : text.substr(space + 1);
    const bool is_set = line.kind == "beside" || line.kind == "apart";
    for (std::size_t i = 0; i < rest.size(); ++i) {
      std::string& name = line.names.back();
      if (rest[i] == '|' && is_set) {
        line.names.emplace_back();
      } else if (rest.substr(i, 2) == "\\x") {
        int byte = 0;
        std::from_chars(rest.data() + i + 2, rest.data() + i + 4, byte, 16);
        name += static_cast<char>(byte);
        i += 3;
      } else if (rest[i] == '\\' && std::string("nrt").find(rest[i + 1]) != std::string::npos) {
        name += rest[i + 1] == 'n' ? '\n' : rest[i + 1] == 'r' ? '\r' : '\t';
        ++i;
      } else {
        name += rest[i];
      }
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

// What keeps the names from lying beside each other.
std::string ProblemBeside(const std::vector<std::string>& names) {
  PortableNames beside;
  for (const std::string& name : names) {
    if (std::string problem = beside.Add(name); !problem.empty()) return problem;
  }
  return {};
}

TEST_CASE("versions of SentencePiece models are a letter and a number, once or twice") {
  for (const char* version : {"v3", "v7m1", "v12m34"})
    CHECK(Q4FileNameProblem("a.model." + std::string(version)).empty());
  for (const char* version : {"x3", "v", "v3x1", "v3m", "v3m1m1", "3", "vbs"}) {
    INFO(version);
    CHECK_FALSE(Q4FileNameProblem("a.model." + std::string(version)).empty());
  }
}

TEST_CASE("a file beside others may be of any kind, and leads nowhere") {
  for (const char* name : {"model.safetensors", "vae/diffusion_pytorch_model.safetensors.index.json", "a/b.q4", "x.bin",
                           "model_index.json"}) {
    INFO(name);
    CHECK(FilePathProblem(name).empty());
  }
  for (const char* name : {"", "../x", "/x", "a/../x", "a//x", "a/", ".x", "a.b/x", "con/x", "nul.txt", "a\\b"}) {
    INFO(name);
    CHECK_FALSE(FilePathProblem(name).empty());
  }
}

TEST_CASE("names of embedded files are those of the table", "[q4][names]") {
  int good = 0, bad = 0, sets = 0;
  for (const NameLine& line : NameLines()) {
    INFO(line.kind << " '" << line.names.front() << "'");
    if (line.kind == "good" || line.kind == "bad") {
      CHECK(Q4FileNameProblem(line.names.front()).empty() == (line.kind == "good"));
      ++(line.kind == "good" ? good : bad);
    } else {
      CHECK(ProblemBeside(line.names).empty() == (line.kind == "beside"));
      ++sets;
    }
  }
  CHECK(good > 40);
  CHECK(bad > 150);
  CHECK(sets > 10);
}

TEST_CASE("a name that was refused leaves nothing behind", "[q4][names]") {
  PortableNames names;
  CHECK(names.Add("a.json").empty());
  CHECK(names.Add("A.json") == "'a.json' differs only in case");
  CHECK(names.Add("A.JSON/b.json") == "'a.json' is a file");
  CHECK(names.Add("b/c.json").empty());
  CHECK(names.Add("b") == "'b' is a folder");
  CHECK(names.Add("B/x.json") == "'b' differs only in case");
  CHECK(names.Add("b/x.json").empty());
}

TEST_CASE("folders of modules have no names of files", "[q4][names]") {
  for (const char* name : {"2_Dense", "a/b", "0_Transformer (old)"}) {
    INFO(name);
    CHECK(FolderNameProblem(name).empty());
  }
  for (const char* name :
       {"", "a/", "/a", "a.partial", "model.safetensors", "NUL", "a/..", ".git", "a/b/c/d/e/f/g/h"}) {
    INFO(name);
    CHECK_FALSE(FolderNameProblem(name).empty());
  }
}

TEST_CASE("nothing that the converter carries by its name alone is code, weights or another's file", "[q4][names]") {
  // Whatever stands before an ending: the classification is asked first, the format's rule second. What both let pass
  // must have an ending of the closed list.
  for (const char* ending : {".py", ".so", ".bin", ".pt", ".safetensors", ".gguf", ".exe", ".scpt", ".vbs", ".wasm"}) {
    for (const char* stem : {"tokenizer", "vocab", "merges", "license", "readme", "tokenizer.model", "config.json"}) {
      const std::string name = std::string(stem) + ending;
      INFO(name);
      CHECK_FALSE((IsCompanionName(name) && Q4FileNameProblem(name).empty()));
      CHECK_FALSE(Q4FileNameProblem(name).empty());
    }
  }
}

}  // namespace
}  // namespace q4
