// What an export may replace, and what it never does.
#include "libconvert/export/replace.h"

#include <filesystem>
#include <map>
#include <string>

#include "formats/base/base_issues.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/export/export.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/export/record.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

namespace stdfs = std::filesystem;
using test::ReadBytes;
using test::SafetensorsBuilder;
using test::Setup;
using test::TempDir;
using test::Weights;

// A checkpoint with embedded files in the directory itself and in one below it.
std::string WriteModelWithModules(const TempDir& dir) {
  SafetensorsBuilder tensors;
  tensors.Add("model.layers.0.mlp.up_proj.weight", "F32", {16, 64}, Weights(DType::kF32, 16 * 64, 1));
  tensors.Add("model.norm.weight", "F32", {64}, Weights(DType::kF32, 64, 2));
  dir.Write("model/config.json", R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})");
  dir.Write("model/modules.json", R"([{"path": ""}, {"path": "1_Pooling"}])");
  dir.Write("model/1_Pooling/config.json", "{}");
  return dir.Write("model/model.safetensors", tensors.Build());
}

struct ExportSetup : Setup {
  ExportSetup() : Setup(WriteModelWithModules) {}

  void Convert(const std::string& name) const {
    const absl::StatusOr<ConvertReport> report = Run({}, name);
    INFO(report.status().ToString());
    REQUIRE(report.ok());
  }
};

void MustExport(const std::string& input, const std::string& output, const ExportOptions& options = {}) {
  const absl::Status status = ExportModel(PosixFileSystem(), input, output, options).status();
  INFO(status.ToString());
  REQUIRE(status.ok());
}

int RefusalOf(const std::string& input, const std::string& output, const ExportOptions& options = {}) {
  return IssueNumberOf(ExportModel(PosixFileSystem(), input, output, options).status());
}

// All files below `directory` with their bytes, and where links lead.
std::map<std::string, std::string> Tree(const std::string& directory) {
  std::map<std::string, std::string> tree;
  for (const auto& entry : stdfs::recursive_directory_iterator(directory)) {
    const std::string name = entry.path().lexically_relative(directory);
    tree[name] = entry.is_symlink()        ? "-> " + stdfs::read_symlink(entry.path()).string()
                 : entry.is_regular_file() ? ReadBytes(entry.path())
                                           : std::string();
  }
  return tree;
}

}  // namespace

TEST_CASE("an output that exists is refused, and with force only a model is replaced") {
  const ExportSetup setup;
  const TempDir& temp = setup.dir;
  setup.Convert("a.q4");
  ExportOptions force;
  force.force = true;
  SECTION("a model") {
    MustExport(temp.File("a.q4"), temp.File("out"));
    const std::map<std::string, std::string> exported = Tree(temp.File("out"));
    CHECK(exported.contains("q4_export.json"));
    // Of a run that died right after the rename.
    temp.Write("out/.q4-lock", "");
    CHECK(RefusalOf(temp.File("a.q4"), temp.File("out")) == kExportExists.number);
    MustExport(temp.File("a.q4"), temp.File("out/"), force);
    CHECK(Tree(temp.File("out")) == exported);
    // A layout with more files takes its place, and the other way round.
    ExportOptions in_parts = force;
    in_parts.shard_bytes = 1;
    MustExport(temp.File("a.q4"), temp.File("out"), in_parts);
    CHECK(stdfs::exists(temp.File("out/model-00002-of-00002.safetensors")));
    MustExport(temp.File("a.q4"), temp.File("out"), force);
    CHECK(Tree(temp.File("out")) == exported);
  }
  SECTION("an empty directory, also without force") {
    for (const ExportOptions& options : {ExportOptions(), force}) {
      stdfs::remove_all(temp.File("out"));
      stdfs::create_directory(temp.File("out"));
      MustExport(temp.File("a.q4"), temp.File("out"), options);
      CHECK(stdfs::exists(temp.File("out/model.safetensors")));
    }
  }
  SECTION("anything else") {
    temp.Write("home/thesis.txt", "text");
    temp.Write("file", "text");
    stdfs::create_directory_symlink(temp.File("home"), temp.File("link"));
    for (const std::string output : {"home", "file", "link"}) {
      CHECK(RefusalOf(temp.File("a.q4"), temp.File(output), force) == kExportNotReplaceable.number);
    }
    CHECK(ReadBytes(temp.File("home/thesis.txt")) == "text");
  }
}

TEST_CASE("files that no export of the container writes are never swept away") {
  const ExportSetup setup;
  const TempDir& temp = setup.dir;
  setup.Convert("a.q4");
  MustExport(temp.File("a.q4"), temp.File("out"));
  REQUIRE(stdfs::exists(temp.File("out/1_Pooling/config.json")));
  ExportOptions force;
  force.force = true;
  SECTION("a file of another name") { temp.Write("out/README.md", "mine"); }
  SECTION("a hidden file") { temp.Write("out/.gitattributes", "mine"); }
  SECTION("a repository") { temp.Write("out/.git/HEAD", "mine"); }
  SECTION("a name that looks like that of weights") { temp.Write("out/model-00001-of-2.safetensors", "mine"); }
  SECTION("other weights") { temp.Write("out/adapter_model.safetensors", "mine"); }
  SECTION("a file beside an embedded one") { temp.Write("out/1_Pooling/notes.txt", "mine"); }
  SECTION("an empty directory") { stdfs::create_directory(temp.File("out/notes")); }
  SECTION("a directory where a file belongs") {
    stdfs::remove(temp.File("out/config.json"));
    temp.Write("out/config.json/notes.txt", "mine");
  }
  SECTION("a file where a directory belongs") {
    stdfs::remove_all(temp.File("out/1_Pooling"));
    temp.Write("out/1_Pooling", "mine");
  }
  SECTION("a link, as in a cache of downloads") {
    temp.Write("blob", "mine");
    stdfs::remove(temp.File("out/model.safetensors"));
    stdfs::create_symlink(temp.File("blob"), temp.File("out/model.safetensors"));
  }
  SECTION("weights that were changed") {
    std::string bytes = ReadBytes(temp.File("out/model.safetensors"));
    bytes.back() ^= 1;
    temp.Write("out/model.safetensors", bytes);
  }
  SECTION("a file that grew") { temp.Write("out/config.json", ReadBytes(temp.File("out/config.json")) + " "); }
  SECTION("no record") { stdfs::remove(temp.File("out/q4_export.json")); }
  SECTION("a record of other files") {
    temp.Write("out/q4_export.json", R"({"document": "q4export-record", "files": []})");
  }
  SECTION("a record that is none") { temp.Write("out/q4_export.json", "[]"); }
  const std::map<std::string, std::string> before = Tree(temp.path());
  for (const ExporterRow& row : Exporters()) {
    force.to = row.name;
    const absl::Status status = ExportModel(PosixFileSystem(), temp.File("a.q4"), temp.File("out"), force).status();
    INFO(status.ToString());
    CHECK(IssueNumberOf(status) == kExportNotReplaceable.number);
    CHECK(MessageOf(status).starts_with(temp.File("out") + ":"));
    CHECK(Tree(temp.path()) == before);
  }
}

TEST_CASE("a source of the container is never replaced, wherever it lies now") {
  ExportSetup setup;
  const TempDir& temp = setup.dir;
  setup.options.source_digest = GENERATE(SourceDigest::kSha256, SourceDigest::kXxh3);
  setup.Convert("a.q4");
  const std::string model = temp.File("model");
  const std::string weights = ReadBytes(model + "/model.safetensors");
  std::string other = weights;
  other.back() ^= 1;  // the same size
  ExportOptions force;
  force.force = true;
  force.to = GENERATE("bnb", "safetensors");
  SECTION("the directory that it was read from") {
    const std::map<std::string, std::string> before = Tree(temp.path());
    CHECK(RefusalOf(temp.File("a.q4"), model, force) == kExportIsSource.number);
    CHECK(Tree(temp.path()) == before);
  }
  SECTION("a copy under another name, beside other weights") {
    temp.Write("copy/model-00002-of-00002.safetensors", weights);
    temp.Write("copy/model-00001-of-00002.safetensors", other);
    temp.Write("copy/model.safetensors.index.json", "{}");
    const std::map<std::string, std::string> before = Tree(temp.path());
    CHECK(RefusalOf(temp.File("a.q4"), temp.File("copy"), force) == kExportIsSource.number);
    CHECK(Tree(temp.path()) == before);
  }
  SECTION("an export of it, from which the container might have been made") {
    // The record alone would let it be replaced.
    MustExport(temp.File("a.q4"), temp.File("out"), force);
    const std::string record = ReadBytes(temp.File("out/q4_export.json"));
    const absl::StatusOr<std::string> digest = [&]() -> absl::StatusOr<std::string> {
      Q4_ASSIGN_OR_RETURN(const auto file, PosixFileSystem().OpenForRead(model + "/model.safetensors"));
      DigestCache cache;
      return cache.Of(*file, "sha256", nullptr);
    }();
    REQUIRE(digest.ok());
    temp.Write("copy/model.safetensors", weights);
    temp.Write("copy/q4_export.json",
               R"({"document": "q4export-record", "files": [{"name": "model.safetensors", "bytes": )" +
                   std::to_string(weights.size()) + R"(, "sha256": ")" + *digest + R"("}]})");
    CHECK(RefusalOf(temp.File("a.q4"), temp.File("copy"), force) == kExportIsSource.number);
    CHECK(ReadBytes(temp.File("copy/model.safetensors")) == weights);
  }
  SECTION("a single file") {
    force.to = "safetensors";
    temp.Write("copy.safetensors", weights);
    CHECK(RefusalOf(temp.File("a.q4"), temp.File("copy.safetensors"), force) == kExportIsSource.number);
    CHECK(ReadBytes(temp.File("copy.safetensors")) == weights);
  }
  SECTION("other bytes of the same size are somebody else's") {
    force.to = "safetensors";
    temp.Write("lone.safetensors", other);
    CHECK(RefusalOf(temp.File("a.q4"), temp.File("lone.safetensors"), force) == kExportNotReplaceable.number);
    CHECK(ReadBytes(temp.File("lone.safetensors")) == other);
  }
  SECTION("an exported file bears its mark, until somebody changes it") {
    force.to = "safetensors";
    MustExport(temp.File("a.q4"), temp.File("lone.safetensors"), force);
    const std::string exported = ReadBytes(temp.File("lone.safetensors"));
    MustExport(temp.File("a.q4"), temp.File("lone.safetensors"), force);
    CHECK(ReadBytes(temp.File("lone.safetensors")) == exported);
    for (const std::size_t at : {std::size_t{20}, exported.find("model."), exported.size() - 1}) {
      std::string changed = exported;
      changed[at] ^= 1;
      temp.Write("lone.safetensors", changed);
      CHECK(RefusalOf(temp.File("a.q4"), temp.File("lone.safetensors"), force) == kExportNotReplaceable.number);
      CHECK(ReadBytes(temp.File("lone.safetensors")) == changed);
    }
  }
}

TEST_CASE("among other people's files, none of which changes") {
  const ExportSetup setup;
  const TempDir& temp = setup.dir;
  setup.Convert("a.q4");
  MustExport(temp.File("a.q4"), temp.File("alone"));
  const std::map<std::string, std::string> exported = Tree(temp.File("alone"));
  ExportOptions into;
  into.into = true;
  temp.Write("out/.git/HEAD", "mine");
  temp.Write("out/1_Pooling/notes.txt", "mine");
  CHECK(RefusalOf(temp.File("a.q4"), temp.File("out")) == kExportNotReplaceable.number);
  SECTION("and the same again, with force") {
    for (int i = 0; i < 2; ++i) {
      MustExport(temp.File("a.q4"), temp.File("out"), into);
      std::map<std::string, std::string> tree = Tree(temp.File("out"));
      CHECK(tree.erase(".git") + tree.erase(".git/HEAD") + tree.erase("1_Pooling/notes.txt") == 3);
      CHECK(tree == exported);
      if (!into.force) CHECK(RefusalOf(temp.File("a.q4"), temp.File("out"), into) == kExportExists.number);
      into.force = true;
    }
  }
  SECTION("but a name that is taken is refused before the work") {
    std::string taken = "config.json";
    SECTION("by a file") { temp.Write("out/config.json", "mine"); }
    SECTION("by a directory") { temp.Write("out/config.json/x", "mine"); }
    SECTION("by a file where a directory belongs") {
      stdfs::remove_all(temp.File("out/1_Pooling"));
      temp.Write(taken = "out/1_Pooling", "mine");
    }
    SECTION("by a link") { stdfs::create_symlink("nowhere", temp.File("out/config.json")); }
    const std::map<std::string, std::string> before = Tree(temp.path());
    into.progress = [](const Progress&) { FAIL("the work began"); };
    CHECK(RefusalOf(temp.File("a.q4"), temp.File("out"), into) == kExportNotReplaceable.number);
    CHECK(Tree(temp.path()) == before);
  }
}

TEST_CASE("what comes to lie at the output while the export runs is not replaced unlooked at") {
  const ExportSetup setup;
  const TempDir& temp = setup.dir;
  setup.Convert("a.q4");
  ExportOptions options;
  options.force = true;
  options.to = "safetensors";
  for (const std::string output : {"out", "out.safetensors"}) {
    const std::string path = temp.File(output);
    const bool single_file = output != "out";
    const auto put_thesis = [&] { temp.Write(single_file ? output : output + "/thesis.txt", "text"); };
    const auto get_thesis = [&] { return ReadBytes(single_file ? path : path + "/thesis.txt"); };
    INFO(output);
    // Nothing was there when the export began, so that --force is about nothing.
    options.progress = [&](const Progress&) { put_thesis(); };
    CHECK(RefusalOf(temp.File("a.q4"), path, options) == kOutputExists.number);
    CHECK(get_thesis() == "text");
    stdfs::remove_all(path);
    // An export was there, and another thing is now.
    options.progress = nullptr;
    MustExport(temp.File("a.q4"), path, options);
    const int expected = single_file ? kExportIsSource.number : kExportNotReplaceable.number;
    options.progress = [&](const Progress&) {
      if (!single_file) return put_thesis();
      stdfs::copy_file(temp.File("model/model.safetensors"), path, stdfs::copy_options::overwrite_existing);
    };
    CHECK(RefusalOf(temp.File("a.q4"), path, options) == expected);
    CHECK(get_thesis() == (single_file ? ReadBytes(temp.File("model/model.safetensors")) : "text"));
    CHECK_FALSE(stdfs::exists(path + ".partial"));
  }
}

TEST_CASE("an output whose partial file would be the input is refused") {
  const ExportSetup setup;
  const TempDir& temp = setup.dir;
  setup.Convert("a.q4");
  stdfs::rename(temp.File("a.q4"), temp.File("out.safetensors.partial"));
  const std::string bytes = ReadBytes(temp.File("out.safetensors.partial"));
  ExportOptions options;
  options.to = "safetensors";
  CHECK(RefusalOf(temp.File("out.safetensors.partial"), temp.File("out.safetensors"), options) ==
        kExportIsInput.number);
  CHECK(ReadBytes(temp.File("out.safetensors.partial")) == bytes);
}

TEST_CASE("an output that is the input or holds it is refused") {
  const ExportSetup setup;
  const TempDir& temp = setup.dir;
  stdfs::create_directories(temp.File("model/deep"));
  setup.Convert("model/deep/a.q4");
  ExportOptions force;
  force.force = true;
  for (const std::string output : {"model/deep/a.q4", "model", "model/deep", "model/deep/../../model"}) {
    CHECK(RefusalOf(temp.File("model/deep/a.q4"), temp.File(output), force) == kExportIsInput.number);
  }
  CHECK(stdfs::exists(temp.File("model/deep/a.q4")));
}

}  // namespace q4
