// Every way of opening a checkpoint, with each of its calls failing in turn: a disk that fails must not pass for a
// model without what could not be read. What opening can do without is listed here: looks at things that are left out
// anyway, and at those that only make a message better.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/modules.h"
#include "formats/torch/torch_issues.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/torch_builder.h"

namespace q4 {
namespace {

using test::SafetensorsBuilder;
using test::TempDir;

struct FailingModel {
  std::string name;
  std::function<void(const TempDir&)> prepare;
  std::string opened = {};   // in the folder; "" for the folder itself
  int issue = 0;             // of opening it undisturbed
  std::string unheard = {};  // calls whose failure is no error, sorted, a comma between them; one for each time
  OpenOptions options = {};
};

std::string OneTensor(const std::string& name, const std::string& dtype = "F32") {
  return SafetensorsBuilder().Add(name, dtype, {1}, dtype == "F32" ? "0123" : "0").Build();
}

std::string GgufPart(std::uint16_t number, std::uint16_t count) {
  return test::GgufBuilder()
      .Text("general.architecture", "llama")
      .U16("split.no", number)
      .U16("split.count", count)
      .Tensor("t" + std::to_string(number), {8}, test::kGgufF32, std::string(32, 'x'))
      .Build();
}

std::string TorchModel(const std::string& name) {
  const test::PickledView view{.shape = {4}, .strides = {1}, .elements = 4};
  return test::TorchBytes(test::PickledDict({{name, test::PickledTensor(view)}}), std::string(16, 's'));
}

std::string TwoShards(const std::string& ending) {
  return R"({"metadata": {}, "weight_map": {"a": "m-00001-of-00002.)" + ending + R"(", "b": "m-00002-of-00002.)" +
         ending + "\"}}";
}

std::string FileWithScale(const std::string& scale) {
  return SafetensorsBuilder()
      .Add("a.weight", "F8_E4M3", {2, 2}, "8888")
      .Add(scale, "F32", {}, std::string("\0\0\x80\x3f", 4))
      .Build();
}

const std::string kModules =
    R"([{"idx": 0, "name": "0", "path": "", "type": "x"}, {"idx": 1, "name": "1", "path": "1_Dense", "type": "x"}])";

std::vector<FailingModel> Models() {
  const std::string fp8 = R"({"quantization_config": {"quant_method": "fp8"}})";
  const std::string bnb = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [64]})";
  return {
      {.name = "one file and its companions",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors", OneTensor("a"));
             dir.Write("config.json", "{}");
             dir.Write("tokenizer.json", "{}");
             dir.Write("optimizer.pt", "x");
             dir.Write("onnx/model.onnx", "x");
             dir.Write("additional_chat_templates/a.jinja", "x");
           },
       .unheard = "ListDirectory onnx, Stat model.onnx, Stat q4_export.json"},
      {.name = "a cache of links",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("blobs/a", OneTensor("a"));
             dir.Write("blobs/b", "{}");
             dir.Write("blobs/c", kModules);
             dir.Write("blobs/d", OneTensor("d"));
             dir.Write("blobs/dense/x", "x");
             dir.Write("snapshots/m/x", "x");
             const auto link = [&](const char* to, const char* name) {
               std::filesystem::create_symlink(to, dir.File(std::string("snapshots/m/") + name));
             };
             link("../../blobs/a", "model.safetensors");
             link("../../blobs/b", "config.json");
             link("../../blobs/b", "tokenizer.json");
             link("../../blobs/c", "modules.json");
             link("../../blobs/dense", "1_Dense");
             std::filesystem::create_symlink("../d", dir.File("blobs/dense/model.safetensors"));
             std::filesystem::create_symlink("../b", dir.File("blobs/dense/config.json"));
           },
       .opened = "snapshots/m",
       .options = {.follow_symlinks = true}},
      {.name = "a file beside a configuration that names another",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors", OneTensor("a"));
             dir.Write("other.safetensors", OneTensor("b"));
             dir.Write("config.json", R"({"transformers_weights": "other.safetensors"})");
           },
       .opened = "model.safetensors"},
      {.name = "a file in a folder that is no model's",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("w.safetensors", OneTensor("a"));
             dir.Write("tokenizer.json", "{}");
           },
       .opened = "w.safetensors",
       .unheard = "ListDirectory ."},
      {.name = "a folder whose configuration names the file",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors", OneTensor("a"));
             dir.Write("other.safetensors", OneTensor("b"));
             dir.Write("config.json", R"({"transformers_weights": "other.safetensors"})");
           }},
      {.name = "shards",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors.index.json", TwoShards("safetensors"));
             dir.Write("m-00001-of-00002.safetensors", OneTensor("a"));
             dir.Write("m-00002-of-00002.safetensors", OneTensor("b"));
           }},
      {.name = "a file and the index that names it",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors.index.json", R"({"weight_map": {"a": "model.safetensors"}})");
             dir.Write("model.safetensors", OneTensor("a"));
           }},
      {.name = "shards of which one is missing",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors.index.json", TwoShards("safetensors"));
             dir.Write("m-00001-of-00002.safetensors", OneTensor("a"));
           },
       .issue = kShardMissing.number},
      // Files of these names are looked into for what they are; what is chosen is opened again.
      {.name = "a PyTorch checkpoint",
       .prepare = [](const TempDir& dir) { dir.Write("m.bin", TorchModel("a")); },
       .unheard = "OpenForRead m.bin, ReadAt m.bin"},
      {.name = "a bare pickle",
       .prepare = [](const TempDir& dir) { dir.Write("m.pt", test::PickleOf(std::string(40, ']'))); },
       .opened = "m.pt",
       .issue = kTorchLegacy.number},
      {.name = "shards of PyTorch",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("pytorch_model.bin.index.json", TwoShards("bin"));
             dir.Write("m-00001-of-00002.bin", TorchModel("a"));
             dir.Write("m-00002-of-00002.bin", TorchModel("b"));
           }},
      {.name = "a GGUF file in parts",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("m-00001-of-00002.gguf", GgufPart(0, 2));
             dir.Write("m-00002-of-00002.gguf", GgufPart(1, 2));
           },
       .unheard = "OpenForRead m-00001-of-00002.gguf, OpenForRead m-00002-of-00002.gguf, ReadAt m-00001-of-00002.gguf, "
                  "ReadAt m-00002-of-00002.gguf"},
      {.name = "parts of which one is missing",
       .prepare = [](const TempDir& dir) { dir.Write("m-00001-of-00002.gguf", GgufPart(0, 2)); },
       .issue = kShardMissing.number,
       .unheard = "OpenForRead m-00001-of-00002.gguf, ReadAt m-00001-of-00002.gguf"},
      {.name = "8-bit floats",
       .prepare =
           [fp8](const TempDir& dir) {
             dir.Write("model.safetensors", FileWithScale("a.weight_scale"));
             dir.Write("config.json", fp8);
             dir.Write("params.json", R"({"quantization": {"qformat_weight": "fp8_e4m3"}})");
             dir.Write("hf_quant_config.json", "{}");
           }},
      {.name = "8-bit floats in modules",
       .prepare =
           [fp8](const TempDir& dir) {
             dir.Write("modules.json", kModules);
             dir.Write("config.json", "{}");
             dir.Write("1_Dense/model.safetensors", FileWithScale("a.weight_scale"));
             dir.Write("1_Dense/config.json", fp8);
           }},
      {.name = "a model of modules",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("modules.json", kModules);
             dir.Write("model.safetensors", OneTensor("a"));
             dir.Write("config.json", "{}");
             dir.Write("1_Dense/model.safetensors", OneTensor("b"));
             dir.Write("1_Dense/router_config.json", R"({"types": {"sub": "x"}, "structure": {}})");
             dir.Write("1_Dense/sub/model.safetensors", OneTensor("c"));
             dir.Write("1_Dense/sub/config.json", "{}");
           }},
      {.name = "weights of bitsandbytes",
       .prepare =
           [bnb](const TempDir& dir) {
             dir.Write("model.safetensors", SafetensorsBuilder()
                                                .Add("w", "U8", {32, 1}, std::string(32, 'c'))
                                                .Add("w.absmax", "F32", {1}, "0123")
                                                .Add("w.quant_map", "F32", {16}, std::string(64, 'm'))
                                                .Add("w.quant_state.bitsandbytes__nf4", "U8", {bnb.size()}, bnb)
                                                .Build());
             dir.Write("config.json", "{}");
           },
       .options = {.take_over = true}},
      {.name = "a model that another method quantized",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model.safetensors", OneTensor("a"));
             dir.Write("config.json", "{}");
             dir.Write("quantize_config.json", R"({"bits": 4, "group_size": 128})");
           }},
      {.name = "an adapter",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("adapter_model.safetensors", OneTensor("base_model.model.q.lora_A.weight"));
             dir.Write("adapter_config.json", R"({"peft_type": "LORA"})");
           },
       .unheard = "OpenForRead adapter_config.json, ReadAt adapter_config.json"},
      {.name = "a pipeline",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model_index.json", R"({"unet": ["diffusers", "X"], "vae": ["diffusers", "Y"]})");
             dir.Write("unet/diffusion_pytorch_model.safetensors", OneTensor("a"));
             dir.Write("vae/config.json", "{}");
           },
       .issue = kPipeline.number},
      {.name = "a list of a pipeline",
       .prepare =
           [](const TempDir& dir) {
             dir.Write("model_index.json", R"({"unet": ["diffusers", "X"]})");
             dir.Write("unet/diffusion_pytorch_model.safetensors", OneTensor("a"));
           },
       .opened = "model_index.json",
       .issue = kPipeline.number},
      {.name = "an empty folder",
       .prepare = [](const TempDir& dir) { dir.Write("x.onnx", "x"); },
       .issue = kNoCheckpointFound.number},
  };
}

// Opens it, and reads the texts that are carried.
absl::Status Use(FileSystem& fs, const std::string& path, const OpenOptions& options) {
  Q4_ASSIGN_OR_RETURN(const auto checkpoint, OpenCheckpoint(fs, path, options));
  Q4_RETURN_IF_ERROR(checkpoint->Configs(fs).status());
  for (const CompanionFile& companion : checkpoint->companions()) {
    Q4_ASSIGN_OR_RETURN(const auto file, OpenCarried(fs, companion));
    std::vector<std::uint8_t> bytes(companion.size);
    Q4_RETURN_IF_ERROR(file->ReadAt(0, bytes));
    Q4_RETURN_IF_ERROR(file->CheckUnchanged());
  }
  Q4_RETURN_IF_ERROR(checkpoint->CheckUnchanged());
  // A question to the folder of a model that is whole.
  return WouldBeCompanion(fs, checkpoint->main_file(), JoinPath(DirectoryOf(checkpoint->main_file().path), "new.json"))
      .status();
}

TEST_CASE("whichever call of opening a checkpoint fails, it is said, unless opening can do without") {
  for (const FailingModel& model : Models()) {
    const TempDir dir;
    model.prepare(dir);
    const std::string path = model.opened.empty() ? dir.path() : dir.File(model.opened);
    std::multiset<std::string> unheard;
    std::int64_t calls = 0;
    for (bool failed = true; failed; ++calls) {
      test::FaultyFileSystem fs(calls);
      const absl::Status status = Use(fs, path, model.options);
      failed = fs.failed();
      INFO(model.name << ", call " << calls << ", " << fs.failed_call() << ": " << MessageOf(status));
      if (failed && IssueNumberOf(status) == kCannotWrite.number) continue;
      CHECK(IssueNumberOf(status) == model.issue);
      std::string call = fs.failed_call();
      const std::size_t above = call.find(BaseNameOf(dir.path()));
      if (above != std::string::npos) call.replace(above, std::string::npos, ".");
      if (failed) unheard.insert(call);
    }
    INFO(model.name << ": " << calls - 1 << " calls");
    CHECK(absl::StrJoin(unheard, ", ") == model.unheard);
  }
}

}  // namespace
}  // namespace q4
