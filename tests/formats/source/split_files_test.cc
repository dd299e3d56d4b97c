// Files in parts, found and opened as one checkpoint; and what GGUF brings as a companion. The faults of parts are rows
// G14 of the hostile table.
#include "formats/source/split_files.h"

#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/gguf/gguf.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
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

TEST_CASE("keys of a later part that say something are told as left out") {
  const TempDir dir;
  dir.Write("m-00001-of-00002.gguf", PartOf(0, 2, "a"));
  GgufBuilder second;
  second.U16("split.no", 1).U16("split.count", 2).Text("general.author", "x");
  dir.Write("m-00002-of-00002.gguf", second.Tensor("b", {1}, test::kGgufF32, "bbbb").Build());
  const auto checkpoint = OpenModel(dir.File("."));
  REQUIRE(checkpoint->left_out().size() == 1);
  CHECK(checkpoint->left_out()[0].reason.find("1 entry") != std::string::npos);
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
