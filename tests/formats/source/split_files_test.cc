// Files in parts, found and opened as one checkpoint; and what GGUF brings as a companion. The faults of parts are rows
// G14 of the hostile table.
#include "formats/source/split_files.h"

#include <filesystem>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/gguf/gguf.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/source_formats.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::GgufBuilder;
using test::TempDir;

std::unique_ptr<Checkpoint> OpenModel(const std::string& path) {
  return test::Must(OpenCheckpoint(PosixFileSystem(), path));
}

// Part `number`, from 0, of `count`, with a tensor of that name.
std::string PartOf(std::uint16_t number, std::uint16_t count, const std::string& tensor) {
  GgufBuilder part;
  if (number == 0) part.Text("general.name", "first");
  part.U16("split.no", number).U16("split.count", count);
  return part.Tensor(tensor, {4}, test::kGgufF32, std::string(16, tensor[0])).Build();
}

std::string ContentOf(const CompanionFile& companion) {
  const auto file = test::Must(OpenCarried(PosixFileSystem(), companion));
  std::string text(file->size(), '\0');
  REQUIRE(file->ReadAt(0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}).ok());
  return text;
}

TEST_CASE("of a set of parts one stands for all") {
  CHECK(OnePartOfEach({"a-00002-of-00003.gguf", "a-00003-of-00003.gguf", "b.gguf"}) ==
        std::vector<std::string>{"a-00002-of-00003.gguf", "b.gguf"});
  const std::vector<std::string> others = {"a-00001-of-00002.gguf", "a-00001-of-00003.gguf", "a-0001-of-0002.gguf",
                                           "a-0000x-of-00002.gguf", "b-00001-of-00002.gguf", "c-00001-of-00002"};
  CHECK(OnePartOfEach(others) == others);
  const std::vector<std::string> letters = {"a-0000x-of-00003.gguf", "a-0000y-of-00003.gguf"};
  CHECK(OnePartOfEach(letters) == letters);
}

TEST_CASE("an ending counts with what is asked to stand behind it, and nothing else") {
  const SourceFormat& safetensors = SourceFormats().front();
  CHECK(HasEnding(safetensors, "model.safetensors"));
  CHECK(HasEnding(safetensors, "model.safetensors.index.json", ".index.json"));
  CHECK_FALSE(HasEnding(safetensors, "model.safetensors", ".index.json"));
  // As long as the ending that is asked for.
  CHECK_FALSE(HasEnding(safetensors, "model.safetensors.index.yaml", ".index.json"));
  CHECK_FALSE(HasEnding(safetensors, "m", ".index.json"));
}

TEST_CASE("any part and the folder lead to the same checkpoint") {
  const TempDir dir;
  dir.Write("m-00001-of-00002.gguf", PartOf(0, 2, "a"));
  dir.Write("m-00002-of-00002.gguf", PartOf(1, 2, "b"));
  for (const std::string given : {".", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const auto checkpoint = OpenModel(dir.File(given));
    CHECK(checkpoint->format() == "gguf-sharded");
    REQUIRE(checkpoint->tensors().size() == 2);
    CHECK(checkpoint->tensors()[1].name == "b");
    CHECK(checkpoint->tensors()[1].place().file == 1);
    REQUIRE(checkpoint->companions().size() == 1);
    CHECK(ContentOf(checkpoint->companions()[0]).find("first") != std::string::npos);
  }
}

TEST_CASE("a part that does not belong to the others is named") {
  struct Fault {
    std::string second;  // what lies in the place of the second part; "" for nothing
    const Issue* issue;
    const char* essence;
  };
  GgufBuilder claims;
  claims.U16("split.no", 1).U16("split.count", 2).U16("split.tensors.count", 9).Tensor("b", {1}, 0, "bbbb");
  const std::vector<Fault> faults = {
      {"", &kShardMissing, "m-00002-of-00002.gguf"},
      {PartOf(0, 2, "b"), &kPartMismatch, "got part 1 of 2, expected 2 of 2"},
      {PartOf(1, 3, "b"), &kPartMismatch, "got part 2 of 3"},
      {PartOf(1, 2, "a"), &kDuplicateTensor, "m-00001-of-00002.gguf and m-00002-of-00002.gguf"},
      {GgufBuilder().Tensor("b", {1}, 0, "bbbb").Build(), &kPartMismatch, "no part"},
      {claims.Build(), &kPartMismatch, "got 9, expected none"},
  };
  for (const Fault& fault : faults) {
    const TempDir dir;
    dir.Write("m-00001-of-00002.gguf", PartOf(0, 2, "a"));
    if (!fault.second.empty()) dir.Write("m-00002-of-00002.gguf", fault.second);
    const absl::Status status = OpenCheckpoint(PosixFileSystem(), dir.File("m-00001-of-00002.gguf")).status();
    INFO(MessageOf(status));
    CHECK(IssueNumberOf(status) == fault.issue->number);
    CHECK(MessageOf(status).find(fault.essence) != std::string::npos);
  }
  const TempDir dir;
  for (const char* name : {"renamed.gguf", "m-00002-of-00002.gguf", "m-00001-of-00003.gguf", "m-00001_of-00002.gguf"}) {
    const std::string path = dir.Write(name, PartOf(0, 2, "a"));
    CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), path).status()) == kPartName.number);
  }
  const std::string of_many = dir.Write("m-00001-of-20000.gguf", PartOf(0, 20'000, "a"));
  CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), of_many).status()) == kTooManyShards.number);
}

TEST_CASE("parts must have as many tensors as both say") {
  const TempDir dir;
  for (std::uint16_t number = 0; number < 2; ++number) {
    GgufBuilder part;
    part.U16("split.no", number).U16("split.count", 2).U16("split.tensors.count", 3);
    dir.Write("m-0000" + std::to_string(number + 1) + "-of-00002.gguf",
              part.Tensor(std::to_string(number), {1}, 0, "1234").Build());
  }
  const absl::Status status = OpenCheckpoint(PosixFileSystem(), dir.File(".")).status();
  CHECK(IssueNumberOf(status) == kPartMismatch.number);
  CHECK(MessageOf(status).find("got 2, expected 3") != std::string::npos);
}

TEST_CASE("a part that is a link is refused, a broken one too") {
  for (const char* target : {"nowhere", "elsewhere"}) {
    const TempDir dir;
    dir.Write("m-00001-of-00002.gguf", PartOf(0, 2, "a"));
    dir.Write("elsewhere", PartOf(1, 2, "b"));
    std::filesystem::create_symlink(target, dir.File("m-00002-of-00002.gguf"));
    const std::string path = dir.File("m-00001-of-00002.gguf");
    CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), path).status()) == kSymbolicLink.number);
    CHECK(OpenCheckpoint(PosixFileSystem(), path, {.follow_symlinks = true}).ok() == (target[0] == 'e'));
  }
}

TEST_CASE("an importance matrix and a vocabulary hold no weights") {
  const TempDir dir;
  const std::string matrix =
      dir.Write("i.gguf", GgufBuilder().Text("general.type", "imatrix").Tensor("t", {1}, 0, "1234").Build());
  CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), matrix).status()) == kUnsupportedFormat.number);
  const std::string vocabulary = dir.Write("v.gguf", GgufBuilder().Text("a", "b").Build());
  CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), vocabulary).status()) == kNoTensors.number);
}

TEST_CASE("keys of a later part that say something are told as left out") {
  const TempDir dir;
  dir.Write("m-00001-of-00002.gguf", PartOf(0, 2, "a"));
  GgufBuilder second;
  second.U16("split.no", 1).U16("split.count", 2).Text("general.author", "x");
  dir.Write("m-00002-of-00002.gguf", second.Tensor("b", {1}, test::kGgufF32, "bbbb").Build());
  const auto checkpoint = OpenModel(dir.File("."));
  REQUIRE(checkpoint->left_out().size() == 1);
  CHECK(checkpoint->left_out()[0].reason.find("1 entry") != std::string::npos);
  CHECK(checkpoint->left_out()[0].name == "key-values of further parts");
  CHECK(checkpoint->left_out()[0].reason.find("general.author") != std::string::npos);
}

TEST_CASE("the metadata is a companion like files, and its name is its own") {
  const TempDir dir;
  const std::string path = dir.Write("model.gguf", GgufBuilder().Text("a", "v").Tensor("t", {1}, 0, "1234").Build());
  dir.Write("config.json", "{}");
  dir.Write("gguf_metadata.vocab", "not this");
  const auto checkpoint = OpenModel(path);
  CHECK(checkpoint->format() == "gguf");
  REQUIRE(checkpoint->companions().size() == 2);
  const CompanionFile& metadata = checkpoint->companions()[1];
  CHECK(metadata.name == "gguf_metadata.vocab");
  const std::string content = ContentOf(metadata);
  CHECK(content.size() == metadata.size);
  CHECK(test::Must(ReadGgufHeader(test::TextFile(content))).keys == std::vector<std::string>{"a"});
  REQUIRE(checkpoint->left_out().size() == 1);
  CHECK(checkpoint->left_out()[0].name == "gguf_metadata.vocab");
  CHECK(checkpoint->left_out()[0].warning);

  // Behind the end nothing is read, and a read over the border of head and file is one of both.
  const auto file = test::Must(OpenCarried(PosixFileSystem(), metadata));
  test::Bytes two(2), one(1);
  REQUIRE(file->ReadAt(23, two).ok());
  CHECK(std::string(two.begin(), two.end()) == content.substr(23, 2));
  CHECK(!file->ReadAt(content.size(), one).ok());
  CHECK(file->ReadAt(content.size(), {}).ok());
}

TEST_CASE("in a folder safetensors go before GGUF, a model before its projector, and two models are one too many") {
  const TempDir dir;
  const std::string model = GgufBuilder().Tensor("t", {1}, 0, "1234").Build();
  dir.Write("mmproj-F16.gguf", model);
  CHECK(OpenModel(dir.File("."))->files()[0].name == "mmproj-F16.gguf");
  dir.Write("some-F16.gguf", model);
  CHECK(OpenModel(dir.File("."))->files()[0].name == "some-F16.gguf");
  CHECK(OpenModel(dir.File("."))->left_out()[0].name == "mmproj-F16.gguf");
  dir.Write("some-F32.gguf", model);
  CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), dir.File(".")).status()) == kAmbiguousDirectory.number);
  dir.Write("model.gguf", model);
  CHECK(OpenModel(dir.File("."))->files()[0].name == "model.gguf");
  dir.Write("model.safetensors", test::SafetensorsBuilder().Add("a", "U8", {2}, "aa").Build());
  CHECK(OpenModel(dir.File("."))->format() == "safetensors");
  CHECK(OpenModel(dir.File("."))->left_out().size() == 4);
}

TEST_CASE("an index that names GGUF is refused, for parts name each other") {
  const TempDir dir;
  dir.Write("x.gguf", GgufBuilder().Tensor("t", {1}, 0, "1234").Build());
  const std::string index = dir.Write("m.index.json", R"({"weight_map": {"t": "x.gguf"}})");
  CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), index).status()) == kNotAShard.number);
}

TEST_CASE("adapters and control vectors are no models, whatever their tensors are called") {
  const TempDir dir;
  const auto write = [&](GgufBuilder file) { return dir.Write("a.gguf", file.Tensor("t", {1}, 0, "1234").Build()); };
  const auto lora = OpenModel(write(GgufBuilder().Text("general.type", "adapter").Text("adapter.type", "lora")));
  REQUIRE(lora->foreign());
  CHECK(lora->foreign()->kind == Foreign::Kind::kAdapter);
  CHECK(lora->foreign()->name == "LoRA adapter");
  const auto vector = OpenModel(write(GgufBuilder().Text("general.architecture", "controlvector")));
  REQUIRE(vector->foreign());
  CHECK(vector->foreign()->name == "control vector");
  CHECK(!OpenModel(write(GgufBuilder().Text("general.type", "model")))->foreign());
}

}  // namespace
}  // namespace q4
