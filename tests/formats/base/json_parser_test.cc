// What Python's json takes and refuses: each row was tried with json.loads() of Python 3.11.
// tests/python/model_json.py compares hundreds of texts with the real one.
#include "formats/base/json_parser.h"

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using namespace std::string_literals;

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST_CASE("ParseModelJson takes what json.loads takes") {
  const auto value = [](const std::string& text) {
    auto json = ParseModelJson(text, "x.json");
    INFO(text.substr(0, 80) << (json.ok() ? "" : MessageOf(json.status())));
    REQUIRE(json.ok());
    return *std::move(json);
  };
  CHECK(std::isnan(value("NaN").get<double>()));
  CHECK(value("[Infinity,-Infinity]")[1].get<double>() == -HUGE_VAL);
  CHECK(value("1e400").get<double>() == HUGE_VAL);
  CHECK(value("-1E+400").get<double>() == -HUGE_VAL);
  CHECK(value("1e-400").get<double>() == 0);
  CHECK(value("1e99999999999999999999").get<double>() == HUGE_VAL);
  CHECK(value("1e-99999999999999999999").get<double>() == 0);
  CHECK(value("0e99999999999999999999").get<double>() == 0);
  CHECK(value("0." + std::string(400, '0') + "1").get<double>() == 0);
  CHECK(value("0." + std::string(400, '0') + "1e401").get<double>() == 1);
  CHECK(value(std::string(5000, '1') + ".0").get<double>() == HUGE_VAL);
  CHECK(value(std::string(4300, '9')).get<double>() == HUGE_VAL);
  CHECK(value("18446744073709551615").get<std::uint64_t>() == 18446744073709551615u);
  CHECK(value("18446744073709551616").get<double>() == 18446744073709551616.0);
  CHECK(value("-9223372036854775808").get<std::int64_t>() == INT64_MIN);
  CHECK(value("-9223372036854775809").is_number_float());
  CHECK(value("-0").get<int>() == 0);
  CHECK(value(" \t\r\n1 \n").get<int>() == 1);
  CHECK(value(R"("\ud83d\ude00")") == "\xF0\x9F\x98\x80");
  CHECK(value(R"("\ud800")") == "\xEF\xBF\xBD");
  CHECK(value(R"("\udc00x")") == "\xEF\xBF\xBDx");
  CHECK(value(R"("\ud800\n")") == "\xEF\xBF\xBD\n");
  CHECK(value(R"("\ud83d\ud83d\ude00")") == "\xEF\xBF\xBD\xF0\x9F\x98\x80");
  CHECK(value(R"("\ud800\u0041")") ==
        "\xEF\xBF\xBD"
        "A");
  CHECK(value(R"("\/\b\f\n\r\t\"\\\u0000")") == "/\b\f\n\r\t\"\\\0"s);
  CHECK(value("\"\x7F\"") == "\x7F");
  CHECK(value("{}").empty());
  CHECK(value("[[],{}]").size() == 2);
  CHECK(value(Repeat("[", 1000) + Repeat("]", 1000)).size() == 1);
  // A key twice: the place of the first, the value of the last.
  const Json twice = value(R"({"a":1,"b":2,"\u0061":{"c":3},"a":[4]})");
  CHECK(twice.dump() == R"({"a":[4],"b":2})");
}

TEST_CASE("ParseModelJson refuses what json.loads refuses, and says where") {
  struct Row {
    std::string text;
    const Issue* issue;
    const char* where;
  };
  const std::vector<Row> rows = {
      {"", &kJsonSyntax, "offset 0"},
      {"  ", &kJsonSyntax, "offset 2"},
      {"\xEF\xBB\xBF{}", &kJsonSyntax, "byte order mark"},
      {"[1,]", &kJsonSyntax, "offset 3"},
      {"{\"a\":1,}", &kJsonSyntax, "offset 7"},
      {"[,]", &kJsonSyntax, "offset 1"},
      {"[1 2]", &kJsonSyntax, "offset 3"},
      {"{\"a\" 1}", &kJsonSyntax, "offset 5"},
      {"{a:1}", &kJsonSyntax, "offset 1"},
      {"{1:2}", &kJsonSyntax, "offset 1"},
      {"'a'", &kJsonSyntax, "offset 0"},
      {"// c\n1", &kJsonSyntax, "offset 0"},
      {"1 # c", &kJsonSyntax, "offset 2"},
      {"1 2", &kJsonSyntax, "offset 2"},
      {"[1", &kJsonSyntax, "the end of the text"},
      {"{\"a\":", &kJsonSyntax, "the end of the text"},
      {"\"abc", &kJsonSyntax, "the end of the text"},
      {"\"a\tb\"", &kJsonSyntax, "control character"},
      {"\"\\x\"", &kJsonSyntax, "offset 2"},
      {"\"\\u00g0\"", &kJsonSyntax, "four hexadecimal digits"},
      {"\"\\u12\"", &kJsonSyntax, "four hexadecimal digits"},
      {"\"\\ud800\\q\"", &kJsonSyntax, "offset 8"},
      {"\"\\ud800\\u12\"", &kJsonSyntax, "four hexadecimal digits"},
      {"\"" + std::string(100'000, 'a') + "\xFF" + std::string(100'000, 'b') + "\"", &kJsonSyntax, "not UTF-8"},
      {"[\"\xC3(\"]", &kJsonSyntax, "offset 1"},
      {"\"\xED\xA0\x80\"", &kJsonSyntax, "not UTF-8"},
      {"1\0"s, &kJsonSyntax, "NUL"},
      {"1\xC2\xA0", &kJsonSyntax, "offset 1"},
      {"01", &kJsonSyntax, "leading zero"},
      {"-01", &kJsonSyntax, "leading zero"},
      {"-", &kJsonSyntax, "a digit"},
      {"+1", &kJsonSyntax, "offset 0"},
      {"1.", &kJsonSyntax, "a digit"},
      {".5", &kJsonSyntax, "offset 0"},
      {"1e+", &kJsonSyntax, "a digit"},
      {"0x10", &kJsonSyntax, "offset 1"},
      {"1_0", &kJsonSyntax, "offset 1"},
      {"nan", &kJsonSyntax, "offset 0"},
      {"-NaN", &kJsonSyntax, "a digit"},
      {"-Inf", &kJsonSyntax, "offset 1"},
      {"NaNx", &kJsonSyntax, "offset 0"},
      {"Infinityy", &kJsonSyntax, "offset 0"},
      {"True", &kJsonSyntax, "offset 0"},
      {"nul", &kJsonSyntax, "offset 0"},
      {std::string(4301, '9'), &kJsonTooLarge, "4301 digits"},
      {"-" + std::string(5000, '9'), &kJsonTooLarge, "5000 digits"},
      {Repeat("[", 1001), &kJsonTooDeep, "1000 levels"},
      {Repeat("{\"a\":", 1001), &kJsonTooDeep, "1000 levels"},
  };
  for (const Row& row : rows) {
    INFO(row.text.substr(0, 60));
    const auto json = ParseModelJson(row.text, "x.json");
    REQUIRE_FALSE(json.ok());
    const std::string message = MessageOf(json.status());
    INFO(message);
    CHECK(IssueNumberOf(json.status()) == row.issue->number);
    CHECK(message.starts_with("x.json: "));
    CHECK(message.find(row.where) != std::string::npos);
  }
}

class Ignore final : public JsonHandler {
 public:
  absl::Status OnScalar(JsonScalar) override { return absl::OkStatus(); }
  absl::Status OnStart(JsonContainer) override { return absl::OkStatus(); }
  absl::Status OnKey(std::string) override { return absl::OkStatus(); }
  absl::Status OnEnd(JsonContainer) override { return absl::OkStatus(); }
};

TEST_CASE("ParsePlainJson has none of Python's additions") {
  const auto parse = [](const std::string& text) {
    JsonText source(text);
    Ignore handler;
    return ParsePlainJson(source, "x", {.max_depth = 4}, handler);
  };
  for (const char* text : {"NaN", "Infinity", "-Infinity", R"("\ud800")", R"("\udc00")", R"("\ud800\u0041")",
                           R"("\ud800\n")", R"("\ud83d\ud83d\ude00")"}) {
    INFO(text);
    CHECK(IssueNumberOf(parse(text)) == kJsonSyntax.number);
  }
  CHECK(parse(R"({"a":1,"a":2})").ok());  // the handler's business
  CHECK(parse(std::string(5000, '9')).ok());
  CHECK(parse("1e400").ok());
}

// Some of a text, and then the disk fails.
class BrokenSource final : public JsonSource {
 public:
  explicit BrokenSource(std::string_view text) : text_(text) {}
  absl::StatusOr<std::string_view> Next() override {
    if (text_.empty()) return Fail(kCannotRead, "x", {});
    return std::exchange(text_, {});
  }

 private:
  std::string_view text_;
};

TEST_CASE("a text that cannot be read to its end is no malformed one, whatever it breaks off in") {
  const std::string text = R"( {"a\u00e9\ud83d\ude00\n": [true, null, -12.5e+3, 7, {}, []], "b": "c"} )";
  for (std::size_t size = 0; size <= text.size(); ++size) {
    BrokenSource source(std::string_view(text).substr(0, size));
    Ignore handler;
    const absl::Status status = ParsePlainJson(source, "x", {.max_depth = 4}, handler);
    INFO(size << ": " << MessageOf(status));
    CHECK(IssueNumberOf(status) == kCannotRead.number);
  }
}

TEST_CASE("a number that breaks off is handed to nobody") {
  class NoScalar final : public JsonHandler {
   public:
    absl::Status OnScalar(JsonScalar) override {
      ++scalars;
      return absl::OkStatus();
    }
    absl::Status OnStart(JsonContainer) override { return absl::OkStatus(); }
    absl::Status OnKey(std::string) override { return absl::OkStatus(); }
    absl::Status OnEnd(JsonContainer) override { return absl::OkStatus(); }
    int scalars = 0;
  };
  for (const char* text : {"[12", "[-0.5", "[1e10"}) {
    BrokenSource source(text);
    NoScalar handler;
    CHECK(IssueNumberOf(ParsePlainJson(source, "x", {.max_depth = 1}, handler)) == kCannotRead.number);
    CHECK(handler.scalars == 0);
  }
  NoScalar handler;
  JsonText source("[1234567890123]");
  CHECK(IssueNumberOf(ParsePlainJson(source, "x", {.max_depth = 1, .max_token_bytes = 8}, handler)) ==
        kJsonTooLarge.number);
  CHECK(handler.scalars == 0);
}

TEST_CASE("a string that is shortened is UTF-8 as a whole") {
  const auto parse = [](const std::string& text) {
    JsonText source(text);
    Ignore handler;
    return ParsePlainJson(source, "x", {.max_depth = 4, .keep_string_bytes = 16}, handler);
  };
  const std::string half(100'000, 'a');
  CHECK(parse("\"" + half + half + "\"").ok());
  CHECK(IssueNumberOf(parse("\"" + half + "\xFF" + half + "\"")) == kJsonSyntax.number);
}

}  // namespace
}  // namespace q4
