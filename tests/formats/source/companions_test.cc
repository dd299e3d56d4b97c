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

// What lies beside model.safetensors in `dir`.
absl::StatusOr<ModelFolder> Classify(const TempDir& dir, SymbolicLinks links = SymbolicLinks::kRefuse,
                                     std::vector<std::string> weights = {"model.safetensors"}) {
  return ClassifyFolder(PosixFileSystem(), MainFile{dir.File("model.safetensors"), {}, false, false}, weights, links);
}

ModelFolder Classified(const TempDir& dir) {
  auto folder = Classify(dir);
  REQUIRE(folder.ok());
  return *std::move(folder);
}

std::vector<std::string> Names(const TempDir& dir) {
  std::vector<std::string> names;
  for (const CompanionFile& companion : Classified(dir).companions) names.push_back(companion.name);
  return names;
}

// "name: reason", with "!" before what a loader would miss and "-" before what is not recorded.
std::vector<std::string> LeftOut(const TempDir& dir) {
  std::vector<std::string> lines;
  for (const LeftOutFile& file : Classified(dir).left_out) {
    lines.push_back((file.warning ? "!" : "") + std::string(file.recorded ? "" : "-") + file.name + ": " + file.reason);
  }
  return lines;
}

TEST_CASE("companions come sorted, with path and size; what is no regular file is named") {
  const TempDir dir;
  dir.Write("tokenizer.json", "12345");
  dir.Write("config.json", "{}");
  dir.Write("model.safetensors", "x");
  std::filesystem::create_directory(dir.File("dir.json"));
  REQUIRE(::mkfifo(dir.File("fifo.json").c_str(), 0600) == 0);
  CHECK(Names(dir) == std::vector<std::string>{"config.json", "tokenizer.json"});
  const ModelFolder found = Classified(dir);
  CHECK(found.companions[1].path == dir.File("tokenizer.json"));
  CHECK(found.companions[1].size == 5);
  CHECK(found.notes.empty());
  CHECK(LeftOut(dir) == std::vector<std::string>{"dir.json/: an empty folder", "!fifo.json: no regular file"});
}

TEST_CASE("every file is carried, or left out with a reason") {
  const TempDir dir;
  for (const char* name : {"config.json",
                           "source.spm",
                           "vocab.json",
                           "LICENSE",
                           "README.md",
                           "additional_chat_templates/rag.jinja",
                           "decoder_tokenizer/vocab.txt",
                           "model.safetensors",
                           "mtp.safetensors",
                           "consolidated.safetensors",
                           "model.fp16.safetensors",
                           "pytorch_model.bin",
                           "colbert_linear.pt",
                           "optimizer.bin",
                           "hf_quant_config.json",
                           "adapter_config.json",
                           "lexicon.fst",
                           "what.xyz",
                           "cover.png",
                           ".gitattributes",
                           "old.q4",
                           "old.q4.journal",
                           ".git/HEAD",
                           "onnx/model.onnx",
                           "onnx/decoder.onnx",
                           "draft/model.safetensors",
                           "bnb/q4_export.json",
                           "bnb/model.safetensors",
                           "voices.npz"}) {
    dir.Write(name, "x");
  }
  CHECK(Names(dir) == std::vector<std::string>{"LICENSE", "README.md", "additional_chat_templates/rag.jinja",
                                               "config.json", "decoder_tokenizer/vocab.txt", "source.spm",
                                               "vocab.json"});
  CHECK(LeftOut(dir) == std::vector<std::string>{
                            "-.git/: a hidden folder or cache",
                            "-.gitattributes: a hidden or temporary file",
                            "!adapter_config.json: of an adapter, which is not applied",
                            "-bnb/: an output of q4",
                            "!colbert_linear.pt: weights or data beside the weights that are read",
                            "consolidated.safetensors: weights in the layout of the model's maker",
                            "cover.png: a picture, sound or film",
                            "!draft/ (1 file): a folder of an unknown kind",
                            "hf_quant_config.json: settings of a quantizer",
                            "!lexicon.fst: perhaps of a tokenizer, but of an unknown kind",
                            "model.fp16.safetensors: another variant of the weights",
                            "!mtp.safetensors: weights that the checkpoint does not name",
                            "-old.q4: an output of q4",
                            "-old.q4.journal: an output of q4",
                            "onnx/ (2 files): weights of another framework",
                            "optimizer.bin: left over from training",
                            "pytorch_model.bin: weights in another format than those that are read",
                            "!voices.npz: data that may hold Python objects",
                            "!what.xyz: of an unknown kind",
                        });
}

TEST_CASE("module folders bring their configurations and tokenizers; their other files are left out") {
  const TempDir dir;
  dir.Write(
      "modules.json",
      R"([{"path":"","type":"t"},{"path":"1_Pooling"},{"path":"2_Normalize"},{"path":"0_Words"},{"path":"3_D"}])");
  for (const char* name : {"1_Pooling/config.json", "0_Words/wordembedding_config.json", "0_Words/vocab.dict",
                           "0_Words/pytorch_model.bin", "3_D/config.json", "3_D/model.safetensors",
                           "3_D/additional_chat_templates/x.jinja", "9_Unlisted/config.json"}) {
    dir.Write(name, "{}");
  }
  CHECK(Names(dir) == std::vector<std::string>{"0_Words/vocab.dict", "0_Words/wordembedding_config.json",
                                               "1_Pooling/config.json", "3_D/additional_chat_templates/x.jinja",
                                               "3_D/config.json", "modules.json"});
  // Without weights in the folder that are read, those of another framework are the only ones.
  CHECK(LeftOut(dir) ==
        std::vector<std::string>{"!0_Words/pytorch_model.bin: weights in another format than those that are read",
                                 "!3_D/model.safetensors: weights that the checkpoint does not name",
                                 "!9_Unlisted/ (1 file): a folder of an unknown kind"});
  const auto read = Classify(dir, SymbolicLinks::kRefuse, {"model.safetensors", "3_D/model.safetensors"});
  REQUIRE(read.ok());
  CHECK(read->left_out.size() == 2);
}

TEST_CASE("folders are searched to a stated depth") {
  const TempDir dir;
  dir.Write("a_tokenizer/b_tokenizer/c_tokenizer/vocab.txt", "x");
  dir.Write("a_tokenizer/b_tokenizer/c_tokenizer/d_tokenizer/vocab.txt", "x");
  CHECK(Names(dir) == std::vector<std::string>{"a_tokenizer/b_tokenizer/c_tokenizer/vocab.txt"});
  CHECK(LeftOut(dir) ==
        std::vector<std::string>{"!a_tokenizer/b_tokenizer/c_tokenizer/d_tokenizer/ (1 file): a folder too deep to be "
                                 "searched"});
}

TEST_CASE("many files are summarised, and names are escaped") {
  const TempDir dir;
  for (int i = 10; i < 40; ++i) dir.Write("pytorch_model-000" + std::to_string(i) + "-of-00040.bin", "x");
  dir.Write("evil\x1b[2J\nname.safetensors", "x");
  const std::vector<std::string> lines = LeftOut(dir);
  REQUIRE(lines.size() == 6);
  CHECK(lines[0] == "!evil\\x1b[2J\\x0aname.safetensors: weights that the checkpoint does not name");
  CHECK(lines[1] == "pytorch_model-00010-of-00040.bin: weights in another format than those that are read");
  CHECK(lines[5] == "pytorch_model-00014-of-00040.bin and 25 more: weights in another format than those that are read");
}

TEST_CASE("a name that no container can hold is left out, not converted") {
  const TempDir dir;
  dir.Write("bad\xff.json", "{}");
  dir.Write("bad\\back.json", "{}");
  dir.Write("CON.json", "{}");
  dir.Write("config.json", "{}");
  dir.Write("License", "");
  dir.Write("license", "");
  CHECK(Names(dir) == std::vector<std::string>{"License", "config.json"});
  const std::string cannot = ": a name that a container cannot hold: ";
  const std::string character = "a character is not one of letters, digits, space and ( ) + , - . = @ _";
  CHECK(LeftOut(dir) ==
        std::vector<std::string>{"!CON.json" + cannot + "a component is a device on some systems",
                                 "!bad\\back.json" + cannot + character, "!bad\\xff.json" + cannot + character,
                                 "!license: a name that no export could write everywhere: 'License' differs only in "
                                 "case"});
}

TEST_CASE("code that a configuration asks for is told, with what to do") {
  struct Case {
    const char *name, *text;
    std::vector<std::string> said;  // in the notes
    bool missed;                    // whether the .py files are
  };
  for (const Case& c :
       {Case{"config.json", R"({"auto_map":{"AutoModel":"modeling_my.My"}})", {"config.json", "modeling_my.py"}, true},
        Case{"config.json",
             R"({"text_config":{"auto_map":{"AutoModel":"inner.My"}}})",
             {"config.json", "inner.py"},
             true},
        Case{"processor_config.json", R"({"parts":[{"auto_map":{"AutoImageProcessor":"i.P"}}]})", {"i.py"}, true},
        Case{"tokenizer_config.json", R"({"auto_map":{"AutoTokenizer":["tok.Slow",null]}})", {"tok.py"}, true},
        Case{"processor_config.json", R"({"auto_map":{"AutoProcessor":"p.P"}})", {"p.py", "trust_remote_code"}, true},
        Case{"config.json", R"({"custom_pipelines":{"t":{"impl":"pipe.P","pt":["AutoModel"]}}})", {"pipe.py"}, true},
        Case{"config.json", R"({"auto_map":{"AutoModel":"org/repo--modeling.My"}})", {"org/repo"}, false},
        Case{"config.json", R"({"auto_map":{}})", {}, false},
        Case{"config.json", R"({"auto_map":[1,{"a":2}]})", {}, false}, Case{"config.json", R"([)", {}, false}}) {
    INFO(c.text);
    const TempDir dir;
    dir.Write(c.name, c.text);
    dir.Write("modeling_my.py", "x");
    const ModelFolder found = Classified(dir);
    CHECK(found.notes.size() == (c.said.empty() ? 0 : 1));
    for (const std::string& word : c.said) {
      CHECK(found.notes[0].warning);
      CHECK(found.notes[0].text.find(word) != std::string::npos);
    }
    REQUIRE(found.left_out.size() == 1);
    CHECK(found.left_out[0].name == "modeling_my.py");
    CHECK(found.left_out[0].warning == c.missed);
    REQUIRE(found.companions.size() == 1);
  }
}

TEST_CASE("a lone file of another name has companions if a configuration lies beside it, or its folder was given") {
  const TempDir dir;
  dir.Write("consolidated.safetensors", "x");
  dir.Write("tekken.json", "{}");
  const auto find = [&](bool from_folder) {
    const MainFile main{dir.File("consolidated.safetensors"), {}, false, from_folder};
    return *ClassifyFolder(PosixFileSystem(), main, std::vector<std::string>{"consolidated.safetensors"},
                           SymbolicLinks::kRefuse);
  };
  CHECK(find(true).companions.size() == 1);
  CHECK(find(false).companions.empty());
  REQUIRE(find(false).notes.size() == 1);
  CHECK(find(false).notes[0].text.find("give the folder") != std::string::npos);
  dir.Write("params.json", "{}");
  CHECK(find(false).companions.size() == 2);
  CHECK(find(false).notes.empty());
}

TEST_CASE("a file would be a companion exactly if it is one once it is there") {
  struct Case {
    std::string main;
    bool is_index;
    std::vector<std::string> present;
  };
  const std::string modules = R"([{"path":""},{"path":"1_Pooling"}])";
  const std::vector<std::string> names = {"report.json",
                                          "config.json",
                                          "report.html",
                                          "modules.json",
                                          "1_Pooling/config.json",
                                          "1_Pooling/report.json",
                                          "2_X/config.json",
                                          "report.xml",
                                          "LICENSE",
                                          "params.json",
                                          "a.py",
                                          "report.q4"};
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
      const MainFile main{dir.Write(c.main, "{}"), {}, c.is_index, false};
      const auto would = WouldBeCompanion(PosixFileSystem(), main, dir.File("./" + name));
      REQUIRE(would.ok());
      if (!std::filesystem::exists(dir.File(name))) dir.Write(name, name == "modules.json" ? modules : "{}");
      const auto found =
          ClassifyFolder(PosixFileSystem(), main, std::vector<std::string>{c.main}, SymbolicLinks::kRefuse);
      REQUIRE(found.ok());
      const bool is_one = std::any_of(found->companions.begin(), found->companions.end(),
                                      [&](const auto& file) { return file.name == name; });
      CHECK(*would == is_one);
      const TempDir elsewhere;
      CHECK_FALSE(*WouldBeCompanion(PosixFileSystem(), main, elsewhere.File(name)));
    }
  }
}

TEST_CASE("what would be taken for the checkpoint itself is no name for a report") {
  const TempDir dir;
  const MainFile main{dir.Write("model.safetensors", "{}"), {}, false, true};
  for (const char* name : {"model.safetensors.index.json", "x.safetensors"}) {
    CHECK(*WouldBeCompanion(PosixFileSystem(), main, dir.File(name)));
    CHECK(MayBelongToModel(name));
  }
  CHECK_FALSE(*WouldBeCompanion(PosixFileSystem(), main, dir.File("x.q4.index.json")));
}

TEST_CASE("links are refused unless they are followed") {
  const TempDir dir;
  const TempDir outside;
  outside.Write("secret", "abc");
  std::filesystem::create_symlink(outside.File("secret"), dir.File("config.json"));
  CHECK(IssueNumberOf(Classify(dir).status()) == kSymbolicLink.number);
  REQUIRE(Classify(dir, SymbolicLinks::kFollow).ok());
  CHECK(Classify(dir, SymbolicLinks::kFollow)->companions[0].size == 3);
  // Of what is left out nothing is read, so a link is no error.
  std::filesystem::create_symlink(outside.File("secret"), dir.File("a.png"));
  std::filesystem::create_symlink(outside.path(), dir.File("link"));
  CHECK(Classify(dir, SymbolicLinks::kFollow)->left_out[1].name == "link/ (a link)");
  std::filesystem::remove(outside.File("secret"));
  CHECK(IssueNumberOf(Classify(dir, SymbolicLinks::kFollow).status()) == kNotARegularFile.number);
  std::filesystem::remove(dir.File("config.json"));

  outside.Write("m/config.json", "{}");
  dir.Write("modules.json", R"([{"path":"m"}])");
  std::filesystem::create_symlink(outside.File("m"), dir.File("m"));
  CHECK(IssueNumberOf(Classify(dir).status()) == kSymbolicLink.number);
  CHECK(Classify(dir, SymbolicLinks::kFollow)->companions.size() == 2);
}

TEST_CASE("number and size are limited") {
  const TempDir dir;
  const std::string big = dir.Write("tokenizer.json", "");
  std::filesystem::resize_file(big, limits::kEmbeddedFileBytes + 1);  // sparse
  CHECK(IssueNumberOf(Classify(dir).status()) == kCompanionTooLarge.number);
  std::filesystem::remove(big);
  // A document is no reason to refuse a model.
  const std::string corpus = dir.Write("corpus.txt", "");
  std::filesystem::resize_file(corpus, limits::kEmbeddedFileBytes + 1);
  CHECK(LeftOut(dir) == std::vector<std::string>{"!corpus.txt: a document larger than a container can hold"});
  std::filesystem::remove(corpus);
  for (std::uint64_t i = 0; i < limits::kEmbeddedFiles; ++i) dir.Write(std::to_string(i) + ".json", "");
  CHECK(Classify(dir)->companions.size() == limits::kEmbeddedFiles);
  dir.Write("one_more.json", "");
  CHECK(IssueNumberOf(Classify(dir).status()) == kTooManyCompanions.number);
}

TEST_CASE("a note says what is not carried beside a lone file, where that is a tokenizer") {
  const TempDir dir;
  const MainFile main{dir.Write("w.safetensors", ""), {}, false, false};
  const auto notes = [&] {
    const auto folder = ClassifyFolder(PosixFileSystem(), main, {}, SymbolicLinks::kRefuse);
    REQUIRE(folder.ok());
    CHECK(folder->companions.empty());
    return folder->notes.size();
  };
  dir.Write("notes.xyz", "a");
  CHECK(notes() == 0);
  dir.Write("tokenizer.json", "{}");
  CHECK(notes() == 1);
}

TEST_CASE("companions have a size that they may have together") {
  const TempDir dir;
  dir.Write("config.json", "{}");
  for (const char* name : {"a.json", "b.json", "c.json", "d.json"}) {
    std::filesystem::resize_file(dir.Write(name, ""), limits::kEmbeddedFileBytes);  // holes, which take no place
  }
  CHECK(IssueNumberOf(Classify(dir).status()) == kCompanionTooLarge.number);
  std::filesystem::remove(dir.File("a.json"));
  CHECK(Classify(dir).ok());
}

TEST_CASE("a folder that is searched may be a link only where links are followed") {
  const TempDir dir;
  dir.Write("model/config.json", "{}");
  dir.Write("templates/a.jinja", "a");
  std::filesystem::create_directory_symlink("../templates", dir.File("model/additional_chat_templates"));
  const MainFile main{dir.File("model/model.safetensors"), {}, false, false};
  const auto classify = [&](SymbolicLinks links) { return ClassifyFolder(PosixFileSystem(), main, {}, links); };
  CHECK(IssueNumberOf(classify(SymbolicLinks::kRefuse).status()) == kSymbolicLink.number);
  const auto followed = classify(SymbolicLinks::kFollow);
  REQUIRE(followed.ok());
  CHECK(followed->companions.size() == 2);
}

}  // namespace
}  // namespace q4
