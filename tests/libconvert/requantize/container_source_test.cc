// What the tools' test (tests/cli/requantize_test.py) cannot see: ranges that begin anywhere, parts of several chunks,
// embedded files, and what lies behind the end of a container's file.
#include "libconvert/requantize/container_source.h"

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "libconvert/model/decoder.h"
#include "libconvert/requantize/decoded_file.h"
#include "libconvert/source/source_reader.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Must;

test::Bytes KeptBytes() {
  test::Bytes kept((9u << 20) + 6);
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<std::uint8_t>(i * 7 % 64);
  return kept;
}

std::vector<float> Values() {
  std::vector<float> values(4100);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i % 91) - 45) / 64;
  return values;
}

std::shared_ptr<const Q4Model> WriteModelOfAll(const test::TempDir& dir) {
  test::Q4Builder builder;
  builder.AddFile("a.json", "{}");
  builder.AddFile("b.txt", "");
  builder.AddFile("c.txt", std::string(9u << 20, 'c') + "end");
  builder.AddFile("config.json", R"({"model_type": "llama"})");
  builder.AddRaw("kept", DType::kBF16, {KeptBytes().size() / 2}, KeptBytes());
  builder.AddRaw("none", DType::kF32, {0, 4}, {});
  builder.AddQuantized("nested", DType::kF32, {41, 100}, test::BytesOf(Values()), Q4Scheme::kNf4, 64, /*nested=*/true);
  builder.AddQuantized("plain", DType::kF32, {41, 100}, test::BytesOf(Values()), Q4Scheme::kFp4, 32, /*nested=*/false);
  builder.Write(PosixFileSystem(), dir.File("m.q4"));
  return Must(Q4Model::Open(PosixFileSystem(), dir.File("m.q4")));
}

std::vector<std::uint8_t> ElementsOf(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                                     std::uint64_t count) {
  std::vector<std::uint8_t> out(count * ItemSize(tensor.dtype));
  const absl::Status status = SourceReader(checkpoint).Read(tensor, first, out);
  INFO(status);
  REQUIRE(status.ok());
  return out;
}

// Of the whole tensor, by the decoder that inspection and loading use.
std::vector<float> Decoded(const Q4Model& model, const std::string& name) {
  const ReadableTensor readable = ReadableFrom(model, *model.Find(name));
  const TensorDecoder decoder(BestCpuKernels(), readable.tensor, *readable.parts);
  const BlockScales scales = Must(decoder.ReadScales(0, readable.tensor.blocks()));
  const PartBytes codes = Must(decoder.ReadCodes(0, readable.tensor.elems));
  std::vector<float> out(readable.tensor.elems);
  decoder.Decode(codes.data(), scales.decoded.data(), out.size(), FloatType::kF32, out.data());
  return out;
}

TEST_CASE("a container's tensors are elements of the type that they had, in any range") {
  const test::TempDir dir;
  const std::shared_ptr<const Q4Model> model = WriteModelOfAll(dir);
  const std::unique_ptr<Checkpoint> checkpoint = Must(OpenContainerSource(PosixFileSystem(), model));
  CHECK(checkpoint->format() == "q4");
  CHECK(checkpoint->four_bits() == "FP4, NF4");
  CHECK(checkpoint->parent().at("root").get<std::string>() == HexOf(model->root()));
  CHECK(checkpoint->read_bytes() > (24u << 20));
  CHECK_FALSE(checkpoint->foreign());
  REQUIRE(checkpoint->files().size() == 1);
  CHECK(checkpoint->files()[0].name == "m.q4");
  const SourceTensor& kept = *checkpoint->Find("kept");
  CHECK(ElementsOf(*checkpoint, kept, 0, kept.elems) == KeptBytes());
  CHECK(ElementsOf(*checkpoint, *checkpoint->Find("none"), 0, 0).empty());
  std::mt19937 random(3);
  for (const char* name : {"nested", "plain"}) {
    const SourceTensor& tensor = *checkpoint->Find(name);
    CHECK(tensor.dtype == DType::kF32);
    CHECK(tensor.shape == Shape{41, 100});
    CHECK_FALSE(tensor.is_stored());
    const std::vector<float> whole = Decoded(*model, name);
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t first = random() % tensor.elems, count = random() % (tensor.elems - first + 1);
      const std::vector<std::uint8_t> range = ElementsOf(*checkpoint, tensor, first, count);
      CHECK((range.empty() || std::memcmp(range.data(), whole.data() + first, range.size()) == 0));
    }
    SourceReader(*checkpoint).Prefetch(tensor, 0, tensor.elems);
  }
}

TEST_CASE("embedded files are companions, and a configuration is text") {
  const test::TempDir dir;
  const std::unique_ptr<Checkpoint> checkpoint = Must(OpenContainerSource(PosixFileSystem(), WriteModelOfAll(dir)));
  CHECK(Must(checkpoint->ConfigJson(PosixFileSystem())) == R"({"model_type": "llama"})");
  REQUIRE(checkpoint->companions().size() == 4);
  const CompanionFile& large = checkpoint->companions()[2];
  REQUIRE(large.name == "c.txt");
  const std::unique_ptr<RandomAccessFile> file = Must(OpenCarried(PosixFileSystem(), large));
  CHECK(file->size() == (9u << 20) + 3);
  std::vector<std::uint8_t> bytes(7);
  REQUIRE(file->ReadAt((9u << 20) - 4, bytes).ok());
  CHECK(std::string(bytes.begin(), bytes.end()) == "ccccend");
  std::vector<std::uint8_t> across((8u << 20) + 2);
  REQUIRE(file->ReadAt(0, across).ok());
  CHECK(across.back() == 'c');
  CHECK_FALSE(file->ReadAt(file->size() - 1, bytes).ok());
}

TEST_CASE("behind the end of the file lie its parts and nothing else") {
  const test::TempDir dir;
  const std::shared_ptr<const Q4Model> model = WriteModelOfAll(dir);
  const std::shared_ptr<DecodedFile> file = Must(DecodedFile::Open(PosixFileSystem(), model, 0));
  const std::string stored = Must(ReadWholeFile(PosixFileSystem(), dir.File("m.q4"), std::uint64_t{1} << 30));
  CHECK(file->size() == stored.size());
  std::vector<std::uint8_t> bytes(16);
  REQUIRE(file->ReadAt(100, bytes).ok());
  CHECK(std::memcmp(bytes.data(), stored.data() + 100, bytes.size()) == 0);
  // From one part into the next, and over the end.
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < 4; ++i) end = std::max(end, file->tensor(i).begin + file->tensor(i).bytes);
  for (const std::uint64_t offset :
       {file->size() - 4, file->embedded(2).begin - 1, end - 8, end, end + 100, UINT64_MAX - 20}) {
    const absl::Status status = file->ReadAt(offset, bytes);
    CHECK(IssueNumberOf(status) == kFileEndsEarly.number);
  }
  file->Prefetch(0, 10);
  file->Prefetch(end + 1, 10);
  file->Prefetch(file->embedded(0).begin, 1);
  // Another file of the name by now.
  dir.Write("m.q4", stored + "x");
  CHECK(IssueNumberOf(DecodedFile::Open(PosixFileSystem(), model, 0).status()) == kFileChanged.number);
}

}  // namespace
}  // namespace q4
