// OpenCheckpoint() and the Checkpoint that it gives.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/torch_builder.h"

namespace q4 {
namespace {

using test::FaultyFileSystem;
using test::SafetensorsBuilder;
using test::TempDir;

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path, const OpenOptions& options = {}) {
  return OpenCheckpoint(PosixFileSystem(), path, options);
}

std::string Model() { return SafetensorsBuilder().Add("b", "U8", {4}, "bbbb").Add("a", "U8", {2}, "aa").Build(); }

std::string IndexOf(std::string_view shard) {
  return R"({"weight_map":{"a":")" + std::string(shard) + R"(","b":")" + std::string(shard) + "\"}}";
}

std::vector<std::string> Names(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const CompanionFile& companion : checkpoint.companions()) names.push_back(companion.name);
  return names;
}

TEST_CASE("a lone file") {
  const TempDir dir;
  const std::string path = dir.Write("model.safetensors", Model());
  dir.Write("config.json", "{\"x\":1}");
  const auto opened = Open(path);
  REQUIRE(opened.ok());
  const Checkpoint& checkpoint = **opened;
  CHECK(checkpoint.path() == path);
  CHECK(checkpoint.format() == "safetensors");
  REQUIRE(checkpoint.tensors().size() == 2);
  CHECK(checkpoint.tensors()[0].name == "b");  // payload order
  CHECK(Names(checkpoint) == std::vector<std::string>{"config.json"});
  CHECK(*checkpoint.ConfigJson(PosixFileSystem()) == "{\"x\":1}");

  std::vector<std::uint8_t> out(3);
  REQUIRE(checkpoint.Read(*checkpoint.Find("b"), 1, out).ok());
  CHECK(out == std::vector<std::uint8_t>(3, 'b'));
  CHECK(IssueNumberOf(checkpoint.Read(*checkpoint.Find("b"), 2, out)) == kReadOutsideTensor.number);
}

TEST_CASE("the content decides, not the extension") {
  const TempDir dir;
  CHECK((*Open(dir.Write("weights.bin", Model())))->format() == "safetensors");
  dir.Write("model.safetensors", Model());
  CHECK((*Open(dir.Write("index.txt", "  " + IndexOf("model.safetensors"))))->format() == "safetensors-sharded");
  // An index under the name of a checkpoint, and a document that is no index.
  CHECK((*Open(dir.Write("x.safetensors", IndexOf("model.safetensors"))))->format() == "safetensors-sharded");
  CHECK(IssueNumberOf(Open(dir.Write("config.json", R"({"hidden_size":128})")).status()) == kIndexForm.number);
  CHECK(IssueNumberOf(Open(dir.Write("bom.json", "\xEF\xBB\xBF{}")).status()) == kJsonSyntax.number);
}

TEST_CASE("companions of a lone file of another name need a config.json") {
  const TempDir dir;
  const std::string path = dir.Write("download.safetensors", Model());
  dir.Write("notes.txt", "private");
  CHECK(Names(**Open(path)).empty());
  CHECK((*Open(path))->ConfigJson(PosixFileSystem())->empty());
  dir.Write("config.json", "{}");
  CHECK(Names(**Open(path)) == std::vector<std::string>{"config.json", "notes.txt"});
}

TEST_CASE("a directory must hold exactly one checkpoint") {
  const TempDir dir;
  const auto issue = [&] { return IssueNumberOf(Open(dir.path()).status()); };
  SECTION("model.safetensors") {
    dir.Write("model.safetensors", Model());
    dir.Write("other.safetensors", "not even looked at");
    CHECK((*Open(dir.path()))->format() == "safetensors");
  }
  SECTION("an index") {
    dir.Write("model-00001-of-00001.safetensors", Model());
    dir.Write("model.safetensors.index.json", IndexOf("model-00001-of-00001.safetensors"));
    CHECK((*Open(dir.path()))->format() == "safetensors-sharded");
  }
  SECTION("both, and the index names the file") {
    dir.Write("model.safetensors", Model());
    dir.Write("model.safetensors.index.json", IndexOf("model.safetensors"));
    CHECK((*Open(dir.path()))->format() == "safetensors-sharded");
  }
  SECTION("both, and the index does not") {
    dir.Write("model.safetensors", Model());
    dir.Write("model.safetensors.index.json", IndexOf("model-00001-of-00001.safetensors"));
    CHECK(issue() == kAmbiguousDirectory.number);
  }
  SECTION("an index of another name") {
    dir.Write("d-00001-of-00001.safetensors", Model());
    dir.Write("d.safetensors.index.json", IndexOf("d-00001-of-00001.safetensors"));
    CHECK((*Open(dir.path()))->format() == "safetensors-sharded");
  }
  SECTION("a single file of another name") {
    dir.Write("consolidated.safetensors", Model());
    CHECK(Open(dir.path()).ok());
  }
  SECTION("several files and no index") {
    for (const char* name : {"a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors"})
      dir.Write(name, Model());
    const absl::Status status = Open(dir.path()).status();
    CHECK(IssueNumberOf(status) == kAmbiguousDirectory.number);
    CHECK(MessageOf(status).find("a.safetensors, b.safetensors, c.safetensors and 1 more") != std::string::npos);
  }
  SECTION("PyTorch only") {
    const std::string torch =
        test::TorchBytes(test::PickledDict({{"a", test::PickledTensor({{4}, {1}, 0, "0", 4})}}), std::string(16, 'x'));
    const auto main_file = [&] { return BaseNameOf((*Open(dir.path()))->main_file().path); };
    // What a training leaves behind, an adapter, and other things by these names do not count.
    dir.Write("training_args.bin", torch);
    dir.Write("rng_state.pth", torch);
    dir.Write("sound.bin", "x");
    CHECK(issue() == kUnsupportedFormat.number);
    dir.Write("only.pt", torch);
    CHECK(main_file() == "only.pt");
    CHECK((*Open(dir.path()))->format() == "torch");
    dir.Write("other.ckpt", torch);
    CHECK(issue() == kAmbiguousDirectory.number);
    dir.Write("diffusion_pytorch_model.bin", torch);
    CHECK(main_file() == "diffusion_pytorch_model.bin");
    dir.Write("pytorch_model.bin", torch);
    CHECK(main_file() == "pytorch_model.bin");
    // Safetensors of any name go before them.
    dir.Write("weights.safetensors", Model());
    CHECK(main_file() == "weights.safetensors");
  }
  SECTION("PyTorch in shards") {
    for (const std::string name : {"a", "b"}) {
      dir.Write("pytorch_model-" + name + ".bin",
                test::TorchBytes(
                    test::PickledDict({{name, test::PickledTensor({{4}, {1}, 0, "0", 4})}, {"epoch" + name, "N"}}),
                    std::string(16, 'x')));
    }
    CHECK(issue() == kAmbiguousDirectory.number);
    dir.Write("pytorch_model.bin.index.json",
              R"({"metadata":{},"weight_map":{"a":"pytorch_model-a.bin","b":"pytorch_model-b.bin"}})");
    const auto checkpoint = Open(dir.path());
    REQUIRE(checkpoint.ok());
    CHECK((*checkpoint)->format() == "torch-sharded");
    CHECK((*checkpoint)->tensors().size() == 2);
    CHECK((*checkpoint)->files()[1].checksums.size() == 3);
    const auto& left_out = (*checkpoint)->left_out();
    CHECK(std::any_of(left_out.begin(), left_out.end(), [](const LeftOutFile& file) {
      return file.name == "data.pkl" && file.reason == "2 entries, 0 B: epocha, epochb";
    }));
  }
  SECTION("weights that are not read") {
    dir.Write("model.pt", "x");
    const absl::Status status = Open(dir.path()).status();
    CHECK(IssueNumberOf(status) == kUnsupportedFormat.number);
    CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
    CHECK(MessageOf(status).find("model.pt") != std::string::npos);
  }
  SECTION("nothing") {
    dir.Write("config.json", "{}");
    CHECK(issue() == kNoCheckpointFound.number);
  }
  SECTION("hidden files do not count") {
    dir.Write(".model.safetensors", Model());
    CHECK(issue() == kNoCheckpointFound.number);
  }
}

TEST_CASE("links: the path itself may be one, what is found through it may not") {
  const TempDir dir;
  dir.Write("blobs/1", Model());
  std::filesystem::create_directory(dir.File("snapshot"));
  std::filesystem::create_symlink("../blobs/1", dir.File("snapshot/model.safetensors"));
  std::filesystem::create_symlink("snapshot", dir.File("latest"));
  CHECK(Open(dir.File("snapshot/model.safetensors")).ok());
  CHECK(IssueNumberOf(Open(dir.File("latest")).status()) == kSymbolicLink.number);
  CHECK(Open(dir.File("latest"), {.follow_symlinks = true}).ok());
  dir.Write("blobs/2", "{}");
  std::filesystem::create_symlink("../blobs/2", dir.File("snapshot/config.json"));
  CHECK(IssueNumberOf(Open(dir.File("snapshot/model.safetensors")).status()) == kSymbolicLink.number);
  CHECK((*Open(dir.File("snapshot"), {.follow_symlinks = true}))->companions().size() == 1);
}

TEST_CASE("S28: a checkpoint without tensors") {
  const TempDir dir;
  const std::string path = dir.Write("model.safetensors", SafetensorsBuilder().Build());
  const absl::Status status = Open(path).status();
  CHECK(IssueNumberOf(status) == kNoTensors.number);
  CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
  CHECK((*Open(path, {.allow_empty = true}))->tensors().empty());
  const std::string index = dir.Write("i.json", R"({"weight_map":{}})");
  CHECK(IssueNumberOf(Open(index).status()) == kNoTensors.number);
  CHECK(Open(index, {.allow_empty = true}).ok());
}

TEST_CASE("a path that is not there") {
  const TempDir dir;
  const absl::Status status = Open(dir.File("none")).status();
  CHECK(ExitCodeOf(status) == ExitCode::kIo);
  CHECK(MessageOf(status).find("No such file") != std::string::npos);
}

TEST_CASE("the recorded checkpoints open") {
  for (const char* name : {"tiny_plain", "tiny_fp4", "tiny_bf16st", "tiny_bnb", "tiny_skip"}) {
    for (const char* suffix : {"", "_src"}) {
      const auto checkpoint = Open(std::string(Q4_TESTDATA "/checkpoints/") + name + suffix);
      INFO(name << suffix << " " << checkpoint.status());
      REQUIRE(checkpoint.ok());
      CHECK((*checkpoint)->tensors().size() >= 21);
      CHECK(Names(**checkpoint) == std::vector<std::string>{"config.json", "generation_config.json"});
    }
  }
}

// All that a conversion reads from the checkpoint in `directory`.
absl::Status ReadWholeCheckpoint(FileSystem& fs, const std::string& directory) {
  Q4_ASSIGN_OR_RETURN(const auto checkpoint, OpenCheckpoint(fs, directory));
  Q4_ASSIGN_OR_RETURN(const std::string config, checkpoint->ConfigJson(fs));
  if (config != "{}") return absl::DataLossError(config);
  for (const SourceTensor& tensor : checkpoint->tensors()) {
    std::vector<std::uint8_t> bytes(tensor.bytes);
    Q4_RETURN_IF_ERROR(checkpoint->Read(tensor, 0, bytes));
  }
  return checkpoint->CheckUnchanged();
}

TEST_CASE("whichever call fails while a checkpoint is found, opened and read, its error comes through") {
  const TempDir dir;
  dir.Write("config.json", "{}");
  dir.Write("modules.json", R"([{"path":""},{"path":"1_Pooling"}])");
  dir.Write("1_Pooling/config.json", "{}");
  dir.Write("model.safetensors", Model());
  std::string kind = "one file";
  SECTION("one file") {}
  SECTION("a file that its index names") {
    kind = "with an index";
    dir.Write("model.safetensors.index.json", IndexOf("model.safetensors"));
  }
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    FaultyFileSystem fs(calls);
    const absl::Status status = ReadWholeCheckpoint(fs, dir.path());
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(IssueNumberOf(status) == (failed ? kCannotWrite.number : 0));
    CHECK(ExitCodeOf(status) == (failed ? ExitCode::kIo : ExitCode::kOk));
  }
  CHECK(calls > 15);
  std::cout << "open checkpoint, " << kind << ": each of " << calls - 1 << " calls failed in turn\n";
}

TEST_CASE("an empty configuration is no model's without one") {
  const TempDir dir;
  dir.Write("model.safetensors", Model());
  dir.Write("config.json", "");
  const auto checkpoint = Open(dir.path());
  REQUIRE(checkpoint.ok());
  CHECK(IssueNumberOf((*checkpoint)->ConfigJson(PosixFileSystem()).status()) == kJsonSyntax.number);
}

TEST_CASE("metadata of a GGUF file that no container can embed is refused") {
  const TempDir dir;
  const std::string path = dir.File("m.gguf");
  constexpr std::uint64_t kText = 60u << 20;  // of each of five keys, a hole
  std::string head = "GGUF" + std::string("\3\0\0\0", 4);
  test::AppendU64(0, &head);
  test::AppendU64(5, &head);
  std::uint64_t end = 0;
  for (int i = 0; i < 5; ++i) {
    test::AppendU64(1, &head);
    head += static_cast<char>('a' + i) + std::string("\x08\0\0\0", 4);
    test::AppendU64(kText, &head);
    std::ofstream file(path, std::ios::binary | (i == 0 ? std::ios::out : std::ios::in | std::ios::out));
    file.seekp(static_cast<std::streamoff>(end));
    file << head;
    REQUIRE(file.good());
    end += head.size() + kText;
    head.clear();
  }
  std::filesystem::resize_file(path, end);
  const auto checkpoint = Open(path, {.allow_empty = true});
  INFO(MessageOf(checkpoint.status()));
  CHECK(IssueNumberOf(checkpoint.status()) == kCompanionTooLarge.number);
}

}  // namespace
}  // namespace q4
