// Folders of diffusers: a pipeline is refused with the names of its components, and a component is opened by its own
// file names.
#include "formats/source/pipeline.h"

#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::SafetensorsBuilder;
using test::TempDir;

constexpr char kPlain[] = "diffusion_pytorch_model.safetensors";

std::string Model(const std::string& tensor = "a") { return SafetensorsBuilder().Add(tensor, "U8", {2}, "aa").Build(); }

std::string IndexOf(const std::string& shard) { return R"({"weight_map":{"a":")" + shard + "\"}}"; }

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path) {
  return OpenCheckpoint(PosixFileSystem(), path);
}

// The names of the files that a directory's checkpoint is read from, or its issue number.
std::string FilesOf(const TempDir& dir) {
  const auto opened = Open(dir.path());
  if (!opened.ok()) return std::to_string(IssueNumberOf(opened.status()));
  std::string names;
  for (const CheckpointFile& file : (*opened)->files()) names += file.name + " ";
  return names;
}

TEST_CASE("a component is its plain weights, whatever variants lie beside them") {
  const TempDir dir;
  SECTION("one file") {
    for (const char* name : {kPlain, "diffusion_pytorch_model.fp16.safetensors",
                             "diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model.bin"}) {
      dir.Write(name, Model());
    }
    CHECK(FilesOf(dir) == std::string(kPlain) + " ");
  }
  SECTION("shards") {
    dir.Write("diffusion_pytorch_model-00001-of-00001.safetensors", Model());
    dir.Write("diffusion_pytorch_model.safetensors.index.json",
              IndexOf("diffusion_pytorch_model-00001-of-00001.safetensors"));
    dir.Write("diffusion_pytorch_model-00001-of-00001.fp16.safetensors", Model());
    dir.Write("diffusion_pytorch_model.safetensors.index.fp16.json",
              IndexOf("diffusion_pytorch_model-00001-of-00001.fp16.safetensors"));
    CHECK(FilesOf(dir) == "diffusion_pytorch_model-00001-of-00001.safetensors ");
  }
  SECTION("a variant alone") {
    dir.Write("diffusion_pytorch_model.fp16.safetensors", Model());
    CHECK(FilesOf(dir) == "diffusion_pytorch_model.fp16.safetensors ");
  }
  SECTION("shards of a variant alone") {
    dir.Write("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", Model());
    dir.Write("diffusion_pytorch_model-00002-of-00002.fp16.safetensors", Model("b"));
    dir.Write("diffusion_pytorch_model.safetensors.index.fp16.json",
              R"({"weight_map":{"a":"diffusion_pytorch_model-00001-of-00002.fp16.safetensors",)"
              R"("b":"diffusion_pytorch_model-00002-of-00002.fp16.safetensors"}})");
    CHECK(FilesOf(dir) ==
          "diffusion_pytorch_model-00001-of-00002.fp16.safetensors "
          "diffusion_pytorch_model-00002-of-00002.fp16.safetensors ");
  }
  SECTION("two variants and no plain weights: a guess") {
    dir.Write("diffusion_pytorch_model.fp16.safetensors", Model());
    dir.Write("diffusion_pytorch_model.non_ema.safetensors", Model());
    CHECK(FilesOf(dir) == std::to_string(kAmbiguousDirectory.number));
  }
  SECTION("a file and an index that does not name it: a guess") {
    dir.Write(kPlain, Model());
    dir.Write("diffusion_pytorch_model.safetensors.index.json", IndexOf("other.safetensors"));
    CHECK(FilesOf(dir) == std::to_string(kAmbiguousDirectory.number));
  }
  SECTION("model.safetensors goes first, as in folders of transformers") {
    dir.Write("model.safetensors", Model());
    dir.Write(kPlain, Model());
    CHECK(FilesOf(dir) == "model.safetensors ");
  }
}

TEST_CASE("a pipeline is refused, and its components are named") {
  const TempDir dir;
  dir.Write("model_index.json",
            R"({"_class_name": "FluxPipeline", "scheduler": ["diffusers", "S"], "vae": ["diffusers", "V"],
      "transformer": ["diffusers", "T"], "text_encoder": ["transformers", "C"], "feature_extractor": [null, null],
      "../elsewhere": ["diffusers", "X"]})");
  dir.Write("scheduler/scheduler_config.json", "{}");
  dir.Write("transformer/diffusion_pytorch_model-00001-of-00002.safetensors", Model());
  dir.Write("text_encoder/model.safetensors", Model());
  dir.Write("vae/diffusion_pytorch_model.bin", "x");
  dir.Write("backup/model.safetensors", Model());  // no component
  // The pipeline in one file, as some publish it beside the folders.
  dir.Write("flux1-dev.safetensors", Model());
  for (const std::string& path : {dir.path(), dir.File("model_index.json")}) {
    const absl::Status status = Open(path).status();
    CHECK(IssueNumberOf(status) == kPipeline.number);
    CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
    CHECK(MessageOf(status).find("text_encoder, transformer, vae") != std::string::npos);
    CHECK(MessageOf(status).find("elsewhere") == std::string::npos);
    CHECK(MessageOf(status).find("backup") == std::string::npos);
  }
  CHECK(Open(dir.File("text_encoder")).ok());
  CHECK(Open(dir.File("flux1-dev.safetensors")).ok());
}

TEST_CASE("a pipeline is known by its folder and by its list") {
  const TempDir dir;
  FileSystem& fs = PosixFileSystem();
  dir.Write("vae/model.safetensors", Model());
  dir.Write("tokenizer/vocab.json", "{}");
  CHECK(test::Must(PipelineFolder(fs, dir.path())).empty());
  CHECK(test::Must(PipelineFolder(fs, dir.File("absent"))).empty());
  dir.Write("model_index.json", "{}");
  CHECK(test::Must(PipelineFolder(fs, dir.path())) == dir.path());
  CHECK(test::Must(PipelineFolder(fs, dir.File("model_index.json"))) == dir.path());
  CHECK(test::Must(PipelineFolder(fs, dir.File("vae"))).empty());
  CHECK(test::Must(PipelineFolder(fs, dir.File("vae/model.safetensors"))).empty());
  CHECK(test::Must(HoldsWeights(fs, dir.File("vae"))));
  CHECK_FALSE(test::Must(HoldsWeights(fs, dir.File("tokenizer"))));
}

TEST_CASE("a pipeline's list may be anything, and names nothing then") {
  for (const char* text : {"", "[]", "{", "{}", R"({"vae": "diffusers"})"}) {
    const TempDir dir;
    INFO(text);
    dir.Write("model_index.json", text);
    dir.Write("vae/model.safetensors", Model());
    const absl::Status status = Open(dir.path()).status();
    CHECK(IssueNumberOf(status) == kPipeline.number);
    CHECK(MessageOf(status).find("no component") != std::string::npos);
  }
}

TEST_CASE("whichever call fails while a pipeline is looked at, its error comes through") {
  const TempDir dir;
  dir.Write("model_index.json", R"({"vae": ["diffusers", "V"]})");
  dir.Write("vae/model.safetensors", Model());
  for (std::int64_t calls = 0;; ++calls) {
    test::FaultyFileSystem fs(calls);
    const absl::Status status = RefusePipeline(fs, dir.path());
    INFO("call " << calls << ": " << status.message());
    CHECK(IssueNumberOf(status) == (fs.failed() ? kCannotWrite.number : kPipeline.number));
    if (!fs.failed()) break;
    REQUIRE(calls < 50);
  }
}

}  // namespace
}  // namespace q4
