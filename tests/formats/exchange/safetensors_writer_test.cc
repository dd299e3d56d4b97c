#include "formats/exchange/safetensors_writer.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/safetensors/safetensors.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using namespace std::string_literals;

absl::StatusOr<SafetensorsHeader> ParseWritten(std::string_view bytes) {
  return ParseSafetensors(test::AsBytes(bytes), "x");
}

// The header without the length before it.
std::string HeaderJson(const SafetensorsLayout& layout) { return layout.header.substr(8); }

TEST_CASE("the headers of files that save_pretrained wrote come out byte for byte") {
  std::size_t files = 0;
  std::size_t bytes = 0;
  for (const char* name : {"tiny_plain", "tiny_fp4", "tiny_bf16st", "tiny_bnb", "tiny_skip"}) {
    for (const char* suffix : {"", "_src"}) {
      INFO(name << suffix);
      const std::string file =
          test::ReadBytes(std::string(Q4_TESTDATA "/checkpoints/") + name + suffix + "/model.safetensors");
      const auto header = ParseWritten(file);
      REQUIRE(header.ok());
      std::vector<SafetensorsTensor> tensors;
      for (const SourceTensor& tensor : header->tensors) tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
      std::reverse(tensors.begin(), tensors.end());  // the order given must not matter
      const auto layout = PlanSafetensors(tensors);
      REQUIRE(layout.ok());
      CHECK(layout->header == file.substr(0, header->payload_offset));
      CHECK(layout->file_bytes == file.size());
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        CHECK(layout->offsets[i] == header->tensors[tensors.size() - 1 - i].place().offset);
        CHECK(tensors[layout->file_order[i]].name == header->tensors[i].name);
      }
      ++files;
      bytes += layout->header.size();
    }
  }
  std::printf("safetensors_writer_test: %zu headers, %zu bytes, 0 differences\n", files, bytes);
}

TEST_CASE("what is planned and filled, the reader takes") {
  std::vector<SafetensorsTensor> tensors;
  for (int dtype = 1; dtype <= kMaxDType; ++dtype) {
    tensors.push_back({"t" + std::to_string(dtype), static_cast<DType>(dtype), {3, 5}});
    tensors.push_back({"s" + std::to_string(dtype), static_cast<DType>(dtype), {}});
    tensors.push_back({"z" + std::to_string(dtype), static_cast<DType>(dtype), {0, 2}});
  }
  const auto layout = PlanSafetensors(tensors);
  REQUIRE(layout.ok());
  CHECK(layout->header.size() % 8 == 0);
  const auto header = ParseWritten(layout->header + std::string(layout->file_bytes - layout->header.size(), 'p'));
  REQUIRE(header.ok());
  CHECK(header->payload_offset == layout->header.size());
  REQUIRE(header->tensors.size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto read = std::find_if(header->tensors.begin(), header->tensors.end(),
                                   [&](const SourceTensor& tensor) { return tensor.name == tensors[i].name; });
    REQUIRE(read != header->tensors.end());
    CHECK(read->dtype == tensors[i].dtype);
    CHECK(read->shape == tensors[i].shape);
    CHECK(read->place().offset == layout->offsets[i]);
  }
}

TEST_CASE("tensors lie by dtype, then bytewise by name") {
  const std::vector<SafetensorsTensor> tensors = {
      {"b", DType::kBool, {1}},       {"u8", DType::kU8, {1}},     {"i8", DType::kI8, {1}},
      {"e5", DType::kF8E5M2, {1}},    {"e4", DType::kF8E4M3, {1}}, {"e8", DType::kF8E8M0, {1}},
      {"i16", DType::kI16, {1}},      {"u16", DType::kU16, {1}},   {"f16", DType::kF16, {1}},
      {"bf16", DType::kBF16, {1}},    {"i32", DType::kI32, {1}},   {"u32", DType::kU32, {1}},
      {"Z", DType::kF32, {1}},        {"a.10", DType::kF32, {1}},  {"a.2", DType::kF32, {1}},
      {"\xC3\xA9", DType::kF32, {1}}, {"c64", DType::kC64, {1}},   {"f64", DType::kF64, {1}},
      {"i64", DType::kI64, {1}},      {"u64", DType::kU64, {1}}};
  const auto layout = PlanSafetensors(tensors);
  REQUIRE(layout.ok());
  std::string order;
  for (const std::size_t i : layout->file_order) order += tensors[i].name + " ";
  CHECK(order == "u64 i64 f64 c64 Z a.10 a.2 \xC3\xA9 u32 i32 bf16 f16 u16 i16 e8 e4 e5 i8 u8 b ");
}

TEST_CASE("the header is compact JSON that escapes only what it must") {
  const std::vector<SafetensorsTensor> one = {
      {"a\"\\\x01\x7F\xC3\xA9\xF0\x9F\x98\x80/\b\t\xE2\x80\xA8", DType::kF32, {1}}};
  // As safetensors 0.8.0 wrote it for the same name.
  CHECK(HeaderJson(*PlanSafetensors(one)) ==
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\\\"\\\\\\u0001\x7F\xC3\xA9\xF0\x9F\x98\x80/\\b\\t"
        "\xE2\x80\xA8\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  ");
  CHECK(HeaderJson(*PlanSafetensors(std::vector<SafetensorsTensor>{{"\f\n\r", DType::kU8, {1}}}))
            .find(R"("\f\n\r":{"dtype")") != std::string::npos);
  CHECK(HeaderJson(*PlanSafetensors({})) == "{\"__metadata__\":{\"format\":\"pt\"}}");
}

TEST_CASE("what no reader takes is not planned") {
  const auto issue = [](std::vector<SafetensorsTensor> tensors) {
    return IssueNumberOf(PlanSafetensors(tensors).status());
  };
  CHECK(issue({{"a", DType::kF32, {1}}, {"a", DType::kU8, {1}}}) == kDuplicateTensor.number);
  CHECK(issue({{"", DType::kF32, {1}}}) == kTensorName.number);
  CHECK(issue({{"__metadata__", DType::kF32, {1}}}) == kTensorName.number);
  CHECK(issue({{std::string(4097, 'n'), DType::kF32, {1}}}) == kTensorName.number);
  CHECK(issue({{"a\0b"s, DType::kF32, {1}}}) == kTensorName.number);
  CHECK(issue({{"\xFF", DType::kF32, {1}}}) == kTensorName.number);
  CHECK(issue({{"a", DType::kF32, Shape(9, 1)}}) == kTooManyDimensions.number);
  CHECK(issue({{"a", DType::kF32, {1ull << 48}}}) == kTensorTooLarge.number);
  std::vector<SafetensorsTensor> many;
  for (int i = 0; i < 30'000; ++i) many.push_back({std::string(4000, 'n') + std::to_string(i), DType::kU8, {}});
  CHECK(issue(many) == kStHeaderTooLarge.number);
}

}  // namespace
}  // namespace q4
