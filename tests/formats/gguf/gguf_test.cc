// What the reader of GGUF makes of right files; tests/hostile/rows_gguf.py has the wrong ones, a rule each.
#include "formats/gguf/gguf.h"

#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"
#include "formats/gguf/gguf_issues.h"
#include "tests/support/bytes.h"
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

TEST_CASE("every prefix of a file is refused, but for those that lack some of the last padding") {
  const std::string bytes = SmallModel().Build();
  for (std::size_t size = 0; size < bytes.size() - 22; ++size) {
    const absl::Status status = ReadGgufHeader(TextFile(bytes.substr(0, size))).status();
    INFO(size);
    CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
  }
}

}  // namespace
}  // namespace q4
