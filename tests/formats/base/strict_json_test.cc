#include "formats/base/strict_json.h"

#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using namespace std::string_literals;

// Writes the events down: {"a":[1]} gives "{ k:a [ u:1 ] }".
class Recorder final : public JsonHandler {
 public:
  std::string log;
  std::string refuse;  // the event to answer with an error

  absl::Status OnScalar(JsonScalar scalar) override {
    switch (scalar.kind) {
      case JsonScalar::Kind::kNull:
        return Add("null");
      case JsonScalar::Kind::kBool:
        return Add(scalar.boolean ? "true" : "false");
      case JsonScalar::Kind::kUnsigned:
        return Add("u:" + std::to_string(scalar.unsigned_value));
      case JsonScalar::Kind::kNegative:
        return Add("n:" + std::to_string(scalar.negative_value));
      case JsonScalar::Kind::kFloat:
        return Add("f:" + scalar.text);
      case JsonScalar::Kind::kString:
        return Add("s:" + scalar.text);
    }
    return absl::OkStatus();
  }
  absl::Status OnStart(JsonContainer container) override {
    return Add(container == JsonContainer::kObject ? "{" : "[");
  }
  absl::Status OnKey(std::string key) override { return Add("k:" + key); }
  absl::Status OnEnd(JsonContainer container) override { return Add(container == JsonContainer::kObject ? "}" : "]"); }

 private:
  absl::Status Add(const std::string& event) {
    if (event == refuse) return Fail(kNotARegularFile, "handler", {});
    log += (log.empty() ? "" : " ") + event;
    return absl::OkStatus();
  }
};

// Text in pieces of `piece` bytes.
class Pieces final : public JsonSource {
 public:
  Pieces(std::string text, std::size_t piece) : text_(std::move(text)), piece_(piece) {}
  absl::StatusOr<std::string_view> Next() override {
    const std::string_view next = std::string_view(text_).substr(position_, piece_);
    position_ += next.size();
    return next;
  }

 private:
  std::string text_;
  std::size_t piece_;
  std::size_t position_ = 0;
};

absl::Status Parse(std::string_view text, JsonHandler& handler, StrictJsonOptions options = {.max_depth = 8}) {
  JsonText source(text);
  return ParseStrictJson(source, "x.json", options, handler);
}

TEST_CASE("events come in document order") {
  Recorder recorder;
  REQUIRE(Parse(R"( {"a":[1,-2,2.0,1e3,"s",true,false,null,{}],"b":"\u00e9\n"} )", recorder).ok());
  CHECK(recorder.log == "{ k:a [ u:1 n:-2 f:2.0 f:1e3 s:s true false null { } ] k:b s:\xC3\xA9\n }");
}

TEST_CASE("integers are integers") {
  const std::pair<const char*, const char*> kCases[] = {{"0", "u:0"},
                                                        {"18446744073709551615", "u:18446744073709551615"},
                                                        {"18446744073709551616", "f:18446744073709551616"},  // 2^64
                                                        {"-9223372036854775808", "n:-9223372036854775808"},
                                                        {"-9223372036854775809", "f:-9223372036854775809"},
                                                        {"-0", "n:0"},
                                                        {"2.0", "f:2.0"},
                                                        {"1e3", "f:1e3"}};
  for (const auto& [text, event] : kCases) {
    Recorder recorder;
    REQUIRE(Parse(text, recorder).ok());
    CHECK(recorder.log == event);
  }
}

TEST_CASE("what nlohmann/json lets pass is refused") {
  struct Row {
    std::string text;
    const Issue* issue;
    const char* essence;
  };
  const Row kRows[] = {
      {R"({"a":1,"a":2})", &kJsonDuplicateKey, "'a'"},
      {R"({"a":1,"\u0061":2})", &kJsonDuplicateKey, "'a'"},
      {R"({"b":{"a":1,"c":{"a":1},"a":2}})", &kJsonDuplicateKey, "'a'"},
      {"\xEF\xBB\xBF{}", &kJsonSyntax, "byte order mark"},
      {"{}\0"s, &kJsonSyntax, "offset 2: not valid JSON (NUL byte)"},
      {"\0{}"s, &kJsonSyntax, "NUL byte"},
      {"{\0}"s, &kJsonSyntax, "offset 1"},
      {"{}x", &kJsonSyntax, "offset 2:"},
      {"{}{}", &kJsonSyntax, "offset 2:"},
      {"", &kJsonSyntax, "offset 0"},
      {"   ", &kJsonSyntax, "offset 3"},
      {"{\"a\":1,}", &kJsonSyntax, "offset"},
      {"[1,]", &kJsonSyntax, "offset 3: not valid JSON (syntax error while parsing value - unexpected ']'"},
      {"// x\n1", &kJsonSyntax, "offset"},
      {"NaN", &kJsonSyntax, "offset"},
      {"Infinity", &kJsonSyntax, "offset"},
      {"01", &kJsonSyntax, "offset"},
      {"+1", &kJsonSyntax, "offset"},
      {"1e999", &kJsonSyntax, "(number overflow parsing '1e999')"},
      {"'a'", &kJsonSyntax, "offset"},
      {"\"\n\"", &kJsonSyntax, "offset"},
      {"\"\xFF\"", &kJsonSyntax, "offset"},
      {"\"\xC0\x80\"", &kJsonSyntax, "offset"},
      {"\"\xED\xA0\x80\"", &kJsonSyntax, "offset"},
      {"\"\\uD800\"", &kJsonSyntax, "offset"},
      {"\"\\uDC00\"", &kJsonSyntax, "offset"},
      {"\"\\x\"", &kJsonSyntax, "offset"},
      {"[[[[[[[[[1]]]]]]]]]", &kJsonTooDeep, "offset 8: JSON nested too deeply (more than 8 levels)"},
      {std::string(1'000'000, '['), &kJsonTooDeep, "offset 8:"},
  };
  for (const Row& row : kRows) {
    INFO(row.text.substr(0, 40));
    Recorder recorder;
    const absl::Status status = Parse(row.text, recorder);
    CHECK(IssueNumberOf(status) == row.issue->number);
    CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
    const std::string message = MessageOf(status);
    INFO(message);
    CHECK(message.starts_with("x.json: offset "));
    CHECK(message.find(row.essence) != std::string::npos);
  }
}

TEST_CASE("keys repeat freely in different objects") {
  Recorder recorder;
  CHECK(Parse(R"([{"a":{"a":1}},{"a":2},[{"a":3}]])", recorder).ok());
}

TEST_CASE("the handler may check the outermost keys itself, and only those") {
  Recorder recorder;
  const StrictJsonOptions options{.max_depth = 4, .handler_checks_outer_keys = true};
  CHECK(Parse(R"({"a":1,"a":2})", recorder, options).ok());
  CHECK(IssueNumberOf(Parse(R"({"a":{"b":1,"b":2}})", recorder, options)) == kJsonDuplicateKey.number);
}

TEST_CASE("tokens are cut at their limit, however they are escaped") {
  const StrictJsonOptions options{.max_depth = 4, .max_token_bytes = 10};
  for (const std::string good : {"\"0123456789\"", "[\"0123456789\",\"0123456789\"]", "\"\\\"\\\"\\\"\\\"\\\"\"",
                                 "1234567890", "{\"0123456789\" : 1234567890 }"}) {
    Recorder recorder;
    INFO(good);
    CHECK(Parse(good, recorder, options).ok());
  }
  for (const std::string bad : {"\"0123456789a\"", "\"\\\"\\\"\\\"\\\"\\\"x\"", "12345678901", "{\"0123456789a\":1}"}) {
    Recorder recorder;
    INFO(bad);
    CHECK(IssueNumberOf(Parse(bad, recorder, options)) == kJsonTooLarge.number);
  }
}

TEST_CASE("pieces of any size give the same events and offsets") {
  const std::string text = R"({"key\u0041":[1,22,333.5e-2,"string"],"b":{"c":null}})";
  Recorder whole;
  REQUIRE(Parse(text, whole).ok());
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    Pieces source(text, piece);
    Recorder recorder;
    REQUIRE(ParseStrictJson(source, "x.json", {.max_depth = 8}, recorder).ok());
    CHECK(recorder.log == whole.log);
    Pieces broken(text + "!", piece);
    const absl::Status status = ParseStrictJson(broken, "x.json", {.max_depth = 8, .base_offset = 8}, recorder);
    CHECK(MessageOf(status).find("offset " + std::to_string(8 + text.size()) + ":") != std::string::npos);
  }
}

TEST_CASE("errors of the handler and of the source come through unchanged") {
  Recorder recorder;
  recorder.refuse = "u:2";
  CHECK(IssueNumberOf(Parse("[1,2,3]", recorder)) == kNotARegularFile.number);
  CHECK(recorder.log == "[ u:1");

  const test::TempDir dir;
  const auto file = PosixFileSystem().OpenForRead(dir.Write("x.json", "[1,2"));
  REQUIRE(file.ok());
  JsonFile source(**file, 0, 100);  // claims more than the file has
  Recorder other;
  CHECK(IssueNumberOf(ParseStrictJson(source, "x.json", {.max_depth = 8}, other)) == kFileEndsEarly.number);
}

}  // namespace
}  // namespace q4
