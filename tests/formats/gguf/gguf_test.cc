// What the reader of GGUF makes of right files; tests/hostile/rows_gguf.py has the wrong ones, a rule each.
#include "formats/gguf/gguf.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/gguf/gguf_input.h"
#include "formats/gguf/gguf_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/bytes_file.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

using test::GgufBuilder;
using test::TextFile;

GgufBuilder SmallModel() {
  GgufBuilder model;
  model.Text("general.architecture", "llama").U32("t.number", 7);
  model.Tensor("a.weight", {2, 3}, test::kGgufF32, std::string(24, 'a'));
  model.Tensor("b.weight", {5}, test::kGgufF16, std::string(10, 'b'));
  return model;
}

TEST_CASE("dimensions become row-major, and places count from the beginning of the file") {
  for (const std::uint32_t version : {2u, 3u}) {
    const std::string bytes = SmallModel().Version(version).Build();
    const GgufHeader header = test::Must(ReadGgufHeader(TextFile(bytes)));
    CHECK(header.version == version);
    CHECK(header.architecture == "llama");
    CHECK(!header.split);
    REQUIRE(header.tensors.size() == 2);
    CHECK(header.tensors[0].shape == Shape{3, 2});
    CHECK(header.tensors[0].dtype == DType::kF32);
    CHECK(header.tensors[1].dtype == DType::kF16);
    for (const SourceTensor& tensor : header.tensors) {
      REQUIRE(tensor.extents.size() == 1);
      CHECK(bytes.substr(tensor.place().offset, tensor.bytes) == std::string(tensor.bytes, tensor.name[0]));
    }
  }
}

TEST_CASE("the last padding may be missing, in part too") {
  const std::string bytes = SmallModel().Build();
  for (const std::size_t cut : {1u, 21u, 22u}) {
    CHECK(ReadGgufHeader(TextFile(bytes.substr(0, bytes.size() - cut))).ok());
  }
  CHECK(IssueNumberOf(ReadGgufHeader(TextFile(bytes.substr(0, bytes.size() - 23))).status()) == kGgufDataSize.number);
}

TEST_CASE("tensors without elements take no place") {
  GgufBuilder model;
  model.Tensor("empty", {0, 4}, test::kGgufF32, "").Tensor("a", {1}, test::kGgufF32, "1234");
  const GgufHeader header = test::Must(ReadGgufHeader(TextFile(model.Build())));
  REQUIRE(header.tensors.size() == 2);
  CHECK(header.tensors[0].elems == 0);
  GgufBuilder none;
  none.Tensor("empty", {0}, test::kGgufF32, "");
  CHECK(test::Must(ReadGgufHeader(TextFile(none.Build()))).tensors.size() == 1);
}

TEST_CASE("head and key-values are a GGUF file without tensors") {
  const std::string bytes = SmallModel().Build();
  const GgufHeader header = test::Must(ReadGgufHeader(TextFile(bytes)));
  const std::string metadata =
      GgufMetadataHead(header) + bytes.substr(header.key_values_begin, header.key_values_end - header.key_values_begin);
  const GgufHeader again = test::Must(ReadGgufHeader(TextFile(metadata)));
  CHECK(again.tensors.empty());
  CHECK(again.key_values == 2);
  CHECK(again.architecture == "llama");
  CHECK(again.keys == header.keys);
}

TEST_CASE("a split is one from two files on") {
  const auto split = [](std::uint16_t number, std::uint16_t count) {
    return test::Must(ReadGgufHeader(TextFile(SmallModel().U16("split.no", number).U16("split.count", count).Build())))
        .split;
  };
  CHECK(!split(0, 0));
  CHECK(!split(0, 1));
  CHECK(split(1, 2) == GgufSplit{1, 2, std::nullopt});
  // Keys that say something besides are those of the model.
  const auto header = test::Must(ReadGgufHeader(TextFile(SmallModel().U16("split.count", 1).Build())));
  CHECK(header.keys == std::vector<std::string>{"general.architecture", "t.number"});
}

TEST_CASE("names of the format") {
  CHECK(IsGgufFormat("gguf"));
  CHECK(IsGgufFormat("gguf-sharded"));
  for (const std::string_view other : {"", "ggu", "gguf2", "safetensors", "safetensors-sharded"}) {
    CHECK(!IsGgufFormat(other));
  }
}

TEST_CASE("the types of quantized tensors are named, in a text of bounded length") {
  GgufBuilder model;
  for (int i = 0; i < 100; ++i) {
    model.Tensor(std::to_string(i) + std::string(2000, 'n'), {256}, test::kGgufQ4K, std::string(144, 'q'));
  }
  const absl::Status status = ReadGgufHeader(TextFile(model.Build())).status();
  CHECK(IssueNumberOf(status) == kGgufQuantized.number);
  CHECK(MessageOf(status).find("Q4_K: 100 tensors, 0nnn") != std::string::npos);
  CHECK(MessageOf(status).size() < 800);
}

// A file that says it is as large as `size`, with zeros behind `head`.
class LargeFile final : public test::SteadyFile {
 public:
  LargeFile(std::string head, std::uint64_t size) : SteadyFile("m.gguf"), head_(std::move(head)), size_(size) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (fails_) return Fail(kCannotRead, path(), {});
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (offset < head_.size()) head_.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return size_; }
  void Break() { fails_ = true; }

 private:
  std::string head_;
  std::uint64_t size_;
  bool fails_ = false;
};

struct BrokenGguf {
  const char* id;  // row of the hostile table
  std::string bytes;
  const Issue* issue;
  const char* essence;           // must stand in the message besides the rule itself
  std::uint64_t file_bytes = 0;  // 0: those of `bytes`
};

std::string Length(std::uint64_t length) {
  std::string text;
  test::AppendU64(length, &text);
  return text;
}

std::vector<BrokenGguf> BrokenFiles() {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 32;
  constexpr std::uint64_t kFar = std::uint64_t{1} << 63;
  const std::string zeros(64, '\0');
  const auto one = [](std::vector<std::uint64_t> dimensions, std::uint32_t type, std::size_t bytes) {
    return GgufBuilder().Tensor("t", std::move(dimensions), type, std::string(bytes, 't')).Build();
  };
  const auto key = [](std::string_view name) { return GgufBuilder().U32(name, 1).Build(); };
  const auto value = [](std::string_view name, std::uint32_t type, const std::string& bytes) {
    return GgufBuilder().Key(name, type, bytes).Build();
  };
  GgufBuilder many;
  for (int i = 0; i < 70; ++i) many.U32(std::to_string(i) + std::string(65'000, 'k'), 1);
  const std::string magic = "GGUF" + std::string("\3\0\0\0", 4);
  const std::string head = magic + Length(0) + Length(1);
  const std::string info = magic + Length(1) + Length(0);
  return {
      {"G01 magic", "GGML" + one({1}, 0, 4).substr(4), &kGgufVersion, "no GGUF magic"},
      {"G01 version", SmallModel().Version(1).Build(), &kGgufVersion, "version 1; write it again"},
      {"G01 version", SmallModel().Version(4).Build(), &kGgufVersion, "version 4"},
      {"G01 big", SmallModel().Version(0x03000000).Build(), &kGgufVersion, "big-endian"},
      {"G02 keys", GgufBuilder().Counts(0, kFar).Build(), &kGgufEndsEarly, "number of key-values"},
      {"G02 tensors", GgufBuilder().Counts(kFar, 0).Build(), &kGgufEndsEarly, "number of tensors"},
      {"G02 keys", GgufBuilder().Counts(0, 65'537).Build(), &kGgufLimit, "at most 65536", kHuge},
      {"G02 tensors", GgufBuilder().Counts(1'000'001, 0).Build(), &kGgufLimit, "at most 1000000", kHuge},
      {"G03 empty", key(""), &kGgufKey, "got 0 bytes"},
      {"G03 long", key(std::string(65'536, 'k')), &kGgufKey, "got 65536 bytes"},
      {"G03 longer than the file", head + Length(60'000) + zeros, &kGgufEndsEarly, "offset"},
      {"G03 twice", GgufBuilder().U32("a", 1).U32("a", 1).Build(), &kGgufKey, "twice"},
      {"G03 UTF-8", key("a\xff"), &kGgufKey, "a\\xff"},
      {"G03 NUL", key(std::string_view("a\0", 2)), &kGgufKey, "a\\x00"},
      {"G03 all keys", many.Build(), &kGgufLimit, "keys of at most"},
      {"G04 type", value("a", 13, zeros), &kGgufValue, "got type 13"},
      {"G04 array of arrays", GgufBuilder().Array("a", 9, 1, zeros).Build(), &kGgufValue, "an array of type 9"},
      {"G04 array of none", GgufBuilder().Array("a", 13, 1, zeros).Build(), &kGgufValue, "an array of type 13"},
      {"G04 text wanted", GgufBuilder().U32("general.type", 1).Build(), &kGgufValue, "a STRING"},
      {"G04 integer wanted", GgufBuilder().Text("split.count", "3").Build(), &kGgufValue, "an integer"},
      {"G04 negative", value("split.count", 5, "\xff\xff\xff\xff"), &kGgufValue, "negative"},
      {"G05 array", GgufBuilder().Array("a", 10, kFar / 4, zeros).Build(), &kGgufEndsEarly, "an array of"},
      {"G05 text", value("a", 8, Length(kFar)), &kGgufEndsEarly, "a text of"},
      {"G05 kept text", value("general.type", 8, Length(kFar)), &kGgufEndsEarly, "a text of"},
      {"G05 text in array", GgufBuilder().Array("a", 8, 1, Length(kFar)).Build(), &kGgufEndsEarly, "a text of"},
      {"G05 long array", GgufBuilder().Array("a", 0, 16'777'217, "").Build(), &kGgufLimit, "at most 16777216", kHuge},
      {"G05 long text", value("a", 8, Length(67'108'865)), &kGgufLimit, "at most 67108864", kHuge},
      {"G05 scalar cut", head + Length(3) + "abc" + std::string("\x0a\0\0\0", 4), &kGgufEndsEarly, "offset"},
      {"G05 BOOL cut", head + Length(3) + "abc" + std::string("\x07\0\0\0", 4), &kGgufEndsEarly, "offset"},
      {"G06", GgufBuilder().U32("general.alignment", 0).Build(), &kGgufAlignment, "got 0"},
      {"G06", GgufBuilder().U32("general.alignment", 24).Build(), &kGgufAlignment, "got 24"},
      {"G06", GgufBuilder().U32("general.alignment", 4).Build(), &kGgufAlignment, "got 4"},
      {"G06", GgufBuilder().U32("general.alignment", 1u << 17).Build(), &kGgufAlignment, "got 131072"},
      {"G06 type", GgufBuilder().Text("general.alignment", "32").Build(), &kGgufAlignment, "type 8"},
      {"G07 none", one({}, 0, 4), &kGgufTensor, "0 dimensions"},
      {"G07 five", one({1, 1, 1, 1, 1}, 0, 4), &kGgufTensor, "5 dimensions"},
      {"G07 product", one({kFar, 4}, 0, 4), &kGgufTensor, "got shape"},
      {"G07 name", GgufBuilder().Tensor("", {1}, 0, "1234").Build(), &kGgufTensor, "a name of 0 bytes"},
      {"G07 name", GgufBuilder().Tensor(std::string(4097, 'n'), {1}, 0, "1234").Build(), &kGgufTensor, "of 4097 bytes"},
      {"G07 name", GgufBuilder().Tensor("\xff", {1}, 0, "1234").Build(), &kGgufTensor, "\\xff"},
      {"G07 name cut", info + Length(4000) + std::string(60, 'n'), &kGgufEndsEarly, "offset"},
      {"G07 dimensions cut", info + Length(1) + "n" + std::string("\4\0\0\0", 4) + std::string(28, '\1'),
       &kGgufEndsEarly, "offset"},
      {"G08 type", one({1}, 4, 4), &kGgufTensorType, "got type 4"},
      {"G08 block", one({33}, 2, 64), &kGgufTensorType, "multiples of 32 for Q4_0"},
      {"G09 shifted", GgufBuilder().Shifted(32).Tensor("t", {1}, 0, "1234").Build(), &kGgufOffset, "offset 32"},
      {"G10 short", one({16}, 0, 32), &kGgufDataSize, "cut off"},
      {"G10 long", one({1}, 0, 64), &kGgufDataSize, "at most"},
      {"G10 without tensors", GgufBuilder().Build() + zeros, &kGgufDataSize, "at most"},
      {"G11", one({256}, 12, 144), &kGgufQuantized, "Q4_K: 1 tensor, t"},
      {"G12", GgufBuilder().Tensor("t", {1}, 0, "1234").Tensor("t", {1}, 0, "1234").Build(), &kGgufTensor, "duplicate"},
      {"G14", GgufBuilder().U16("split.count", 3).Build(), &kGgufValue, "got none"},
      {"G14", GgufBuilder().U16("split.count", 3).U16("split.no", 3).Build(), &kGgufValue, "less than"},
      {"G15", value("a", 7, "\7"), &kGgufValue, "a BOOL of 7"},
      {"G15 array", GgufBuilder().Array("a", 7, 2, "\1\2").Build(), &kGgufValue, "a BOOL of 2"},
  };
}

TEST_CASE("every rule of GGUF has a file that breaks it") {
  for (const BrokenGguf& row : BrokenFiles()) {
    INFO(row.id);
    const absl::Status status =
        ReadGgufHeader(LargeFile(row.bytes, row.file_bytes == 0 ? row.bytes.size() : row.file_bytes)).status();
    INFO(MessageOf(status));
    CHECK(IssueNumberOf(status) == row.issue->number);
    CHECK(MessageOf(status).find(row.essence) != std::string::npos);
  }
}

TEST_CASE("a file that cannot be read is an error of its own") {
  LargeFile file(SmallModel().Build(), 4096);
  file.Break();
  CHECK(IssueNumberOf(ReadGgufHeader(file).status()) == kCannotRead.number);
}

TEST_CASE("an input that has failed gives zeros and nothing, and stays where it is") {
  const std::vector<std::uint8_t> bytes(12, 0x55);
  const test::BytesFile file(bytes);
  GgufInput input(file);
  CHECK(input.U64() == 0x5555555555555555);
  CHECK(input.U64() == 0);  // four bytes are left
  CHECK(IssueNumberOf(input.status()) == kGgufEndsEarly.number);
  CHECK(input.U8() == 0);
  CHECK(input.U32() == 0);
  CHECK(input.Some(4).empty());
  CHECK(input.Text(2).empty());
  CHECK(input.offset() == 8);
  LargeFile broken(SmallModel().Build(), 4096);
  broken.Break();
  GgufInput unread(broken);
  CHECK(unread.Some(8).empty());
  CHECK(unread.U32() == 0);
  CHECK(unread.offset() == 0);
}

TEST_CASE("every prefix of a file is refused, but for those that lack some of the last padding") {
  const std::string bytes = SmallModel().Build();
  for (std::size_t size = 0; size < bytes.size() - 22; ++size) {
    const absl::Status status = ReadGgufHeader(TextFile(bytes.substr(0, size))).status();
    INFO(size);
    CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
  }
}

TEST_CASE("a head that breaks off is said to end early, whatever it breaks off in") {
  const auto check = [](const std::string& bytes, std::size_t end) {
    for (std::size_t size = 8; size < end; ++size) {
      const absl::Status status = ReadGgufHeader(TextFile(bytes.substr(0, size))).status();
      INFO(size << " of " << end << ": " << MessageOf(status));
      CHECK(IssueNumberOf(status) == kGgufEndsEarly.number);
    }
  };
  const std::string texts = Length(2) + "ab" + Length(0) + Length(1) + "c";
  for (const GgufBuilder& last :
       {GgufBuilder().U32("general.alignment", 64), GgufBuilder().U16("split.count", 1), GgufBuilder().U32("a", 1),
        GgufBuilder().Text("a", "text"), GgufBuilder().Text("general.name", "text"),
        GgufBuilder().Array("a", test::kGgufText, 3, texts), GgufBuilder().Array("a", 7, 3, std::string(3, '\1')),
        GgufBuilder().Key("a", 7, "\1"), GgufBuilder().Text("a", std::string(40, 't')).U32("b", 1)}) {
    const std::string bytes = last.Build();
    check(bytes, test::Must(ReadGgufHeader(TextFile(bytes))).key_values_end);
  }
  const std::string bytes = SmallModel().Build();
  // Behind the last name: dimensions, one of them, type, offset.
  check(bytes, bytes.find("b.weight") + 8 + 4 + 8 + 4 + 8);
}

}  // namespace
}  // namespace q4
