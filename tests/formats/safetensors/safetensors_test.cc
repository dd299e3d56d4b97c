// Rows S01 to S34 of the hostile-input table, each with the smallest file that breaks its rule.
#include "formats/safetensors/safetensors.h"

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using namespace std::string_literals;
using test::SafetensorsBuilder;
using test::SafetensorsBytes;

absl::StatusOr<SafetensorsHeader> Parse(std::string_view bytes) {
  return ParseSafetensors(test::AsBytes(bytes), "x.safetensors");
}

struct BrokenHeader {
  const char* id;
  std::string bytes;
  const Issue* issue;
  const char* essence;  // must stand in the message besides the rule itself
};

// A file of one F32 tensor "a" of 4 elements whose entry is `members`.
std::string Entry(std::string_view members) {
  return SafetensorsBytes("{\"a\":{" + std::string(members) + "}}", std::string(16, 'p'));
}

std::string WithShape(std::string_view shape, std::string_view offsets = "[0,16]") {
  return Entry("\"dtype\":\"F32\",\"shape\":" + std::string(shape) + ",\"data_offsets\":" + std::string(offsets));
}

std::string WithDType(std::string_view dtype) {
  return Entry("\"dtype\":" + std::string(dtype) + ",\"shape\":[4],\"data_offsets\":[0,16]");
}

// Two U8 tensors at the given ranges over a payload of 8 bytes.
std::string TwoTensors(int begin_a, int end_a, int begin_b, int end_b) {
  const auto entry = [](const char* name, int begin, int end) {
    return "\""s + name + "\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(end - begin) + "],\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  return SafetensorsBytes("{" + entry("a", begin_a, end_a) + "," + entry("b", begin_b, end_b) + "}", "01234567");
}

const std::string kValid = SafetensorsBuilder().Add("a", "F32", {4}, "0123456789abcdef").Build();
constexpr char kValidEntry[] = R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})";

std::string Named(std::string_view json_name) {
  return SafetensorsBytes("{\"" + std::string(json_name) + "\":" + kValidEntry + "}", std::string(16, 'p'));
}

std::vector<BrokenHeader> Rows() {
  const std::string payload(16, 'p');
  const std::string entry = kValidEntry;
  return {
      {"S01", "", &kStHeaderTooSmall, "the file is empty"},
      {"S02 one byte", "\x08", &kStHeaderTooSmall, "got 1 bytes"},
      {"S02 seven bytes", "\x08\0\0\0\0\0\0"s, &kStHeaderTooSmall, "got 7 bytes"},
      {"S03", SafetensorsBytes(0, "", payload), &kStHeaderEmpty, ""},
      {"S04 2^64-1", SafetensorsBytes(~0ull, "{}", ""), &kStHeaderExceedsFile, "18446744073709551615"},
      {"S04 2^63", SafetensorsBytes(1ull << 63, "{}", ""), &kStHeaderExceedsFile, "9223372036854775808"},
      {"S04 8+N wraps", SafetensorsBytes(~0ull - 7, "{}", ""), &kStHeaderExceedsFile, "18446744073709551608"},
      {"S05", SafetensorsBytes(3, "{}", ""), &kStHeaderExceedsFile, "got 3, expected at most 2"},
      {"S09 not JSON", SafetensorsBytes("hello", ""), &kJsonSyntax, "offset 8"},
      {"S09 comment", SafetensorsBytes("{/**/}", ""), &kJsonSyntax, "offset 9:"},
      {"S10 array", SafetensorsBytes("[]", ""), &kStNotAnObject, "got an array"},
      {"S10 string", SafetensorsBytes("\"a\"", ""), &kStNotAnObject, "got a string"},
      {"S10 number", SafetensorsBytes("12", ""), &kStNotAnObject, "got an unsigned integer"},
      {"S11 byte order mark", SafetensorsBytes("\xEF\xBB\xBF{}", ""), &kJsonSyntax, "byte order mark"},
      {"S12 trailing NUL", SafetensorsBytes("{}\0"s, ""), &kJsonSyntax, "offset 10: not valid JSON (NUL byte)"},
      {"S12 trailing text", SafetensorsBytes("{} {}", ""), &kJsonSyntax, "offset 11"},
      {"S13 invalid UTF-8", Named("\xFF"), &kJsonSyntax, "offset"},
      {"S13 overlong", Named("\xC0\x80"), &kJsonSyntax, "offset"},
      {"S13 raw surrogate", Named("\xED\xA0\x80"), &kJsonSyntax, "offset"},
      {"S13 lone surrogate", Named("\\uD800"), &kJsonSyntax, "surrogate"},
      {"S14", SafetensorsBytes("{\"a\":" + entry + ",\"a\":" + entry + "}", payload), &kDuplicateTensor, "a:"},
      {"S14 escaped", SafetensorsBytes("{\"a\":" + entry + ",\"\\u0061\":" + entry + "}", payload), &kDuplicateTensor,
       "a:"},
      {"S15 dtype twice", Entry(R"("dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16])"), &kJsonDuplicateKey,
       "'dtype'"},
      {"S15 extra field", Entry(R"("dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1)"), &kStEntry, "field 'x'"},
      {"S15 entry is no object", SafetensorsBytes(R"({"a":3})", ""), &kStEntry, "got an unsigned integer"},
      {"S15 entry is an array", SafetensorsBytes(R"({"a":[]})", ""), &kStEntry, "got an array"},
      {"S16 F33", WithDType("\"F33\""), &kStDType, "got 'F33'"},
      {"S16 f32", WithDType("\"f32\""), &kStDType, "got 'f32'"},
      {"S16 number", WithDType("32"), &kStDType, "got an unsigned integer"},
      {"S16 null", WithDType("null"), &kStDType, "got null"},
      {"S16 object", WithDType("{}"), &kStDType, "got an object"},
      {"S16 missing", Entry(R"("shape":[4],"data_offsets":[0,16])"), &kStEntry, "dtype is missing"},
      {"S16 shape missing", Entry(R"("dtype":"F32","data_offsets":[0,16])"), &kStEntry, "shape is missing"},
      {"S16 offsets missing", Entry(R"("dtype":"F32","shape":[4])"), &kStEntry, "data_offsets is missing"},
      {"S17 negative", WithShape("[-4]"), &kStShape, "got a negative integer"},
      {"S17 minus zero", WithShape("[-0]"), &kStShape, "got a negative integer"},
      {"S17 2.0", WithShape("[2.0,2]"), &kStShape, "no 64-bit integer"},
      {"S17 1e3", WithShape("[1e3]"), &kStShape, "no 64-bit integer"},
      {"S17 string", WithShape("[\"4\"]"), &kStShape, "got a string"},
      {"S17 bool", WithShape("[true]"), &kStShape, "got a boolean"},
      {"S17 nested", WithShape("[[4]]"), &kStShape, "got an array"},
      {"S17 object", WithShape("{}"), &kStShape, "got an object"},
      {"S17 scalar", WithShape("4"), &kStShape, "got an unsigned integer"},
      {"S17 nine dimensions", WithShape("[1,1,1,1,1,1,1,1,4]"), &kTooManyDimensions, "at most 8"},
      {"S18", WithShape("[18446744073709551616]"), &kStShape, "no 64-bit integer"},
      {"S19 product", WithShape("[4294967296,4294967296]"), &kTensorTooLarge, "[4294967296, 4294967296]"},
      {"S19 product with a zero", WithShape("[4294967296,4294967296,0]"), &kTensorTooLarge, "4294967296"},
      {"S19 2^48", WithShape("[281474976710656]"), &kTensorTooLarge, "281474976710656"},
      {"S19 times item size", WithShape("[4611686018427387904]"), &kTensorTooLarge, "4611686018427387904"},
      {"S20", WithShape("[2,9223372036854775807]"), &kTensorTooLarge, "9223372036854775807"},
      {"S21 none", WithShape("[4]", "[]"), &kStOffsets, "fewer than two"},
      {"S21 one", WithShape("[4]", "[0]"), &kStOffsets, "fewer than two"},
      {"S21 three", WithShape("[4]", "[0,16,16]"), &kStOffsets, "more than two"},
      {"S21 reversed", WithShape("[4]", "[16,0]"), &kStOffsets, "begin 16 > end 0"},
      {"S21 negative", WithShape("[4]", "[-1,15]"), &kStOffsets, "got a negative integer"},
      {"S21 float", WithShape("[4]", "[0,16.0]"), &kStOffsets, "no 64-bit integer"},
      {"S21 nested", WithShape("[4]", "[[0],16]"), &kStOffsets, "got an array"},
      {"S21 object", WithShape("[4]", "{}"), &kStOffsets, "got an object"},
      {"S21 string", WithShape("[4]", "\"0,16\""), &kStOffsets, "got a string"},
      {"S22", WithShape("[5]"), &kStSizeMismatch, "got 16 bytes, expected 20 for F32 [5]"},
      {"S22 offsets near 2^64", WithShape("[4]", "[18446744073709551599,18446744073709551615]"), &kStHole,
       "18446744073709551599"},
      {"S23 partial", TwoTensors(0, 5, 4, 8), &kStOverlap, "begin got 4, expected 5"},
      {"S23 identical", TwoTensors(0, 8, 0, 8), &kStOverlap, "begin got 0, expected 8"},
      {"S23 empty tensor inside another", TwoTensors(0, 8, 4, 4), &kStOverlap, "begin got 4, expected 8"},
      {"S24 between", TwoTensors(0, 3, 4, 8), &kStHole, "begin got 4, expected 3"},
      {"S24 first", TwoTensors(1, 4, 4, 8), &kStHole, "begin got 1, expected 0"},
      {"S25", kValid + "PK", &kStTrailingData, "got 18 payload bytes, expected 16"},
      {"S27 F4", WithDType("\"F4\""), &kUnsupportedDType, "got 'F4'"},
      {"S27 F6", WithDType("\"F6_E2M3\""), &kUnsupportedDType, "got 'F6_E2M3'"},
      {"S29 number", SafetensorsBytes(R"({"__metadata__":{"a":1}})", ""), &kStMetadata, "got an unsigned integer"},
      {"S29 nested", SafetensorsBytes(R"({"__metadata__":{"a":{}}})", ""), &kStMetadata, "got an object"},
      {"S29 string", SafetensorsBytes(R"({"__metadata__":"a"})", ""), &kStMetadata, "got a string"},
      {"S29 array", SafetensorsBytes(R"({"__metadata__":[]})", ""), &kStMetadata, "got an array"},
      {"S29 twice", SafetensorsBytes(R"({"__metadata__":{},"__metadata__":{}})", ""), &kStMetadata, "twice"},
      {"S29 null twice", SafetensorsBytes(R"({"__metadata__":null,"__metadata__":null})", ""), &kStMetadata, "twice"},
      {"S29 a long value that is not UTF-8",
       SafetensorsBytes(
           "{\"__metadata__\":{\"a\":\"" + std::string(300'000, 'v') + "\xC3(" + std::string(9, 'v') + "\"}}", ""),
       &kJsonSyntax, "not UTF-8"},
      {"S30", SafetensorsBytes(std::string(1'000'000, '['), ""), &kStNotAnObject, "got an array"},
      {"S30 in an entry", WithShape(std::string(100'000, '[')), &kStShape, "got an array"},
      {"S31 empty", Named(""), &kTensorName, "got 0 bytes"},
      {"S31 4097 bytes", Named(std::string(4097, 'n')), &kTensorName, "got 4097 bytes"},
      {"S31 1 MiB", Named(std::string(1 << 20, 'n')), &kTensorName, "got 65536 bytes or more"},
      {"S31 NUL", Named("a\\u0000"), &kTensorName, "a\\x00"},
      {"S31 escapes", SafetensorsBytes("{\"\\u001b[2J\\n\\\"\\u202e\":3}", ""), &kStEntry,
       "\\x1b[2J\\x0a\"\\xe2\\x80\\xae: "},
      {"S33", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", &kNotACheckpoint,
       "looks like a Git LFS pointer, not weights"},
      {"S34 gzip", "\x1f\x8b\x08\0\0\0\0\0\0\x03"s, &kNotACheckpoint, "a gzip file"},
      {"S34 zip", "PK\x03\x04" + std::string(40, '\0'), &kNotACheckpoint, "a zip archive"},
      {"S34 zip, cut", "PK\x03\x04", &kNotACheckpoint, "a zip archive"},
      {"S34 PyTorch", "PK\x03\x04"s + std::string(22, '\0') + "\x10\0\0\0"s + "archive/data.pkl", &kUnsupportedFormat,
       "a PyTorch checkpoint"},
      {"S34 HTML", "<!DOCTYPE html><html>", &kNotACheckpoint, "an HTML page"},
      {"S34 GGUF", "GGUF\x03\0\0\0\0\0\0\0"s, &kUnsupportedFormat, "a GGUF file"},
      {"S34 pickle", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", &kUnsupportedFormat, "pickle"},
      {"S34 .q4", "\x89Q4F\r\n\x1a\n" + std::string(100, '\0'), &kUnsupportedFormat, "a .q4 container"},
  };
}

TEST_CASE("every safetensors rule has a file that breaks it") {
  int rows = 0;
  for (const BrokenHeader& row : Rows()) {
    INFO(row.id);
    const auto result = Parse(row.bytes);
    REQUIRE(!result.ok());
    const std::string message = MessageOf(result.status());
    INFO(message);
    CHECK(IssueNumberOf(result.status()) == row.issue->number);
    CHECK(ExitCodeOf(result.status()) == row.issue->exit_code);
    CHECK(message.starts_with("x.safetensors: "));
    CHECK(message.find(row.issue->rule) != std::string::npos);
    CHECK(message.find(row.essence) != std::string::npos);
    CHECK(message.size() < 1200);
    ++rows;
  }
  std::printf("safetensors_test: %d hostile files refused\n", rows);
}

TEST_CASE("S09, S26: no prefix of a valid file is accepted, nor one more byte") {
  const std::string bytes = SafetensorsBuilder()
                                .Metadata("format", "pt")
                                .Add("a", "F32", {4}, "0123456789abcdef")
                                .Add("b.weight", "BF16", {2, 3}, "0123456789ab")
                                .Build();
  REQUIRE(Parse(bytes).ok());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    INFO(size);
    const auto result = Parse(std::string_view(bytes).substr(0, size));
    REQUIRE(!result.ok());
    CHECK(ExitCodeOf(result.status()) == ExitCode::kInvalidInput);
  }
  // The payload alone cut short: the header is complete, so the data must be found missing.
  for (std::size_t cut = 1; cut <= 28; ++cut) {
    CHECK(IssueNumberOf(Parse(std::string_view(bytes).substr(0, bytes.size() - cut)).status()) ==
          kStDataEndsEarly.number);
  }
  for (int extra = 0; extra < 256; ++extra) {
    CHECK(IssueNumberOf(Parse(bytes + static_cast<char>(extra)).status()) == kStTrailingData.number);
  }
}

TEST_CASE("S09: a header that ends at any byte is refused, at that byte") {
  const std::string json = "{\"a\":" + std::string(kValidEntry) + "}";
  for (std::size_t size = 1; size < json.size(); ++size) {
    INFO(size);
    const auto result = Parse(SafetensorsBytes(json.substr(0, size), std::string(16, 'p')));
    REQUIRE(!result.ok());
    CHECK(IssueNumberOf(result.status()) == kJsonSyntax.number);
    CHECK(MessageOf(result.status()).find("offset " + std::to_string(8 + size)) != std::string::npos);
  }
}

TEST_CASE("a byte that changes in the header is refused or gives another header, never a crash") {
  const std::string good = SafetensorsBuilder().Add("ab", "F32", {2, 2}, std::string(16, 'p')).Build();
  int refused = 0;
  for (std::size_t at = 0; at < good.size() - 16; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(value);
      const auto result = Parse(bytes);
      if (!result.ok()) {
        ++refused;
        continue;
      }
      // Whatever is accepted tiles the payload.
      std::uint64_t end = result->payload_offset;
      for (const SourceTensor& tensor : result->tensors) {
        REQUIRE(tensor.place().offset == end);
        end += tensor.bytes;
      }
      REQUIRE(end == bytes.size());
    }
  }
  CHECK(refused > 10'000);
}

TEST_CASE("what the format allows is accepted") {
  SECTION("fields, order and metadata") {
    const auto header = Parse(SafetensorsBuilder()
                                  .Metadata("format", "pt")
                                  .Add("b", "F32", {2}, "01234567")
                                  .Add("a", "BF16", {1, 2, 1}, "0123")
                                  .Build());
    REQUIRE(header.ok());
    REQUIRE(header->tensors.size() == 2);
    CHECK(header->tensors[0].name == "b");
    CHECK(header->tensors[0].place().offset == header->payload_offset);
    CHECK(header->tensors[1].name == "a");
    CHECK(header->tensors[1].dtype == DType::kBF16);
    CHECK(header->tensors[1].shape == Shape{1, 2, 1});
    CHECK(header->tensors[1].elems == 2);
    CHECK(header->tensors[1].bytes == 4);
    CHECK(header->tensors[1].place().offset == header->payload_offset + 8);
    REQUIRE(header->metadata.size() == 1);
    CHECK(header->metadata[0] == std::pair<std::string, std::string>("format", "pt"));
    CHECK(header->metadata_entries == 1);
    CHECK(header->metadata_bytes == 2);
  }
  SECTION("S11 leading white space") { CHECK(Parse(SafetensorsBytes(" \n{}", "")).ok()); }
  SECTION("S12 trailing spaces") { CHECK(Parse(SafetensorsBytes("{}      ", "")).ok()); }
  SECTION("S28 scalar, zero-size dimension, no tensors") {
    const auto header = Parse(SafetensorsBuilder().Add("s", "F32", {}, "0123").Add("z", "F32", {0, 7}, "").Build());
    REQUIRE(header.ok());
    CHECK(header->tensors[0].elems == 1);
    CHECK(header->tensors[1].elems == 0);
    CHECK(header->tensors[1].bytes == 0);
    CHECK(Parse(SafetensorsBytes("{}", ""))->tensors.empty());
  }
  SECTION("S31 unusual names") {
    for (const std::string name : {"../x", "\\u001b[2J", "\\\"", "\xE2\x80\xAE", "n\\nm"})
      CHECK(Parse(Named(name)).ok());
    CHECK(Parse(Named(std::string(4096, 'n'))).ok());
  }
  SECTION("S32 odd alignment") {
    const auto header = Parse(SafetensorsBuilder().Add("u", "U8", {3}, "012").Add("f", "F32", {1}, "0123").Build());
    REQUIRE(header.ok());
    CHECK(header->tensors[1].place().offset == header->payload_offset + 3);
  }
  SECTION("members in any order") { CHECK(Parse(Entry(R"("data_offsets":[0,16],"shape":[4],"dtype":"F32")")).ok()); }
  SECTION("a tensor without bytes where two others meet") {
    const auto header = Parse(TwoTensors(0, 8, 8, 8));
    CHECK(header.ok());
    CHECK(Parse(TwoTensors(0, 8, 0, 0)).ok());
  }
}

TEST_CASE("S29: __metadata__ of any size is read, and what is kept of it is bounded") {
  SECTION("null, none, a key twice") {
    CHECK(Parse(SafetensorsBytes(R"({"__metadata__":null})", ""))->metadata_entries == 0);
    CHECK(Parse(SafetensorsBytes(R"({"__metadata__":{}})", ""))->metadata_entries == 0);
    CHECK(Parse(SafetensorsBytes(R"({"__metadata__":{"a":"1","a":"2"}})", ""))->metadata_entries == 2);
  }
  SECTION("one long value, which is shortened at a character") {
    // 3 bytes each, so that the limit is within one.
    std::string value;
    for (int i = 0; i < 100'000; ++i) value += "\xE2\x82\xAC";
    const auto header = Parse(SafetensorsBytes(R"({"__metadata__":{"a":")" + value + R"(","b":"2"}})", ""));
    REQUIRE(header.ok());
    CHECK(header->metadata_entries == 2);
    CHECK(header->metadata_bytes == value.size() + 1);
    REQUIRE(header->metadata.size() == 2);
    CHECK(header->metadata[0].second.size() == limits::kMetadataValueBytes / 3 * 3);
    CHECK(value.starts_with(header->metadata[0].second));
    CHECK(header->metadata[1].second == "2");
  }
  SECTION("a long key") {
    const auto header = Parse(SafetensorsBytes("{\"__metadata__\":{\"" + std::string(200'000, 'k') + "\":\"a\"}}", ""));
    REQUIRE(header.ok());
    CHECK(header->metadata[0].first.size() <= limits::kMetadataValueBytes);
  }
  SECTION("many") {
    std::string json = "{\"__metadata__\":{";
    for (int i = 0; i < 40; ++i)
      json += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"" + std::string(64 << 10, 'v') + "\"";
    const auto header = Parse(SafetensorsBytes(json + "}}", ""));
    REQUIRE(header.ok());
    CHECK(header->metadata_entries == 40);
    CHECK(header->metadata_bytes == 40u << 16);
    std::uint64_t kept = 0;
    for (const auto& [key, value] : header->metadata) kept += key.size() + value.size();
    CHECK(kept <= limits::kMetadataTotalBytes);
    CHECK(kept > limits::kMetadataTotalBytes / 2);
  }
}

TEST_CASE("S06: a header above the limit is refused before it is read") {
  const test::TempDir dir;
  const std::string path = dir.Write("big.safetensors", SafetensorsBytes(limits::kSafetensorsHeaderBytes + 1, "", ""));
  std::filesystem::resize_file(path, std::uint64_t{1} << 40);  // sparse
  const auto file = PosixFileSystem().OpenForRead(path);
  REQUIRE(file.ok());
  const auto result = ReadSafetensorsHeader(**file);
  CHECK(IssueNumberOf(result.status()) == kStHeaderTooLarge.number);
  CHECK(MessageOf(result.status()).find("got 100000001, expected at most 100000000") != std::string::npos);
}

TEST_CASE("a file and its bytes give the same header") {
  const test::TempDir dir;
  // Longer than one piece of the file reader, so that names and numbers lie across the seam.
  SafetensorsBuilder builder;
  for (int i = 0; i < 20'000; ++i) builder.Add("model.layers." + std::to_string(i) + ".weight", "U8", {1}, "x");
  const std::string bytes = builder.Build();
  REQUIRE(bytes.size() > (1 << 20));
  const auto file = PosixFileSystem().OpenForRead(dir.Write("m.safetensors", bytes));
  REQUIRE(file.ok());
  const auto from_file = ReadSafetensorsHeader(**file);
  const auto from_bytes = Parse(bytes);
  REQUIRE(from_file.ok());
  REQUIRE(from_bytes.ok());
  REQUIRE(from_file->tensors.size() == from_bytes->tensors.size());
  for (std::size_t i = 0; i < from_file->tensors.size(); ++i) {
    REQUIRE(from_file->tensors[i].name == from_bytes->tensors[i].name);
    REQUIRE(from_file->tensors[i].place().offset == from_bytes->tensors[i].place().offset);
  }
}

TEST_CASE("S07, S08: more tensors than the limit") {
  std::string json = "{";
  json.reserve(60 << 20);
  for (std::uint64_t i = 0; i <= limits::kTensorsPerCheckpoint; ++i) {
    json += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[],"data_offsets":[0,1]})";
  }
  const auto result = Parse(SafetensorsBytes(json + "}", "x"));
  CHECK(IssueNumberOf(result.status()) == kTooManyTensors.number);
}

}  // namespace
}  // namespace q4
