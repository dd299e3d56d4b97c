#include "formats/base/json_value.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

TEST_CASE("ParseJson keeps types, order and depth") {
  const auto json = ParseJson(R"({"b":[1,-2,2.0,"x",true,null,[[]]],"a":{"c":{}}})", "x.json", 8);
  REQUIRE(json.ok());
  CHECK(json->dump() == R"({"b":[1,-2,2.0,"x",true,null,[[]]],"a":{"c":{}}})");
  CHECK((*json)["b"][0].is_number_unsigned());
  CHECK((*json)["b"][2].is_number_float());
  CHECK(ParseJson("7", "x.json", 0)->get<int>() == 7);
  CHECK(IssueNumberOf(ParseJson("[[1]]", "x.json", 1).status()) == kJsonTooDeep.number);
}

TEST_CASE("ParseJson applies the strict rules and names the file") {
  CHECK(IssueNumberOf(ParseJson(R"({"a":1,"a":2})", "x.json", 8).status()) == kJsonDuplicateKey.number);
  const auto big = ParseJson(R"({"model_max_length": 1000000000000000019884624838656})", "x.json", 8);
  CHECK(IssueNumberOf(big.status()) == kJsonInteger.number);
  CHECK(MessageOf(big.status()).find("x.json: model_max_length: ") == 0);
  CHECK(ExitCodeOf(ParseJson("{", "x.json", 8).status()) == ExitCode::kInvalidInput);
}

TEST_CASE("a value is refused before it takes more memory than it may, whatever it consists of") {
  for (const char* unit :
       {"1", "[]", "{}", "\"a\"", "{\"a\":1}", "[[[[[[]]]]]]", "null", "-1.5e3", "{\"a\":\"bbbbbbbb\"}"}) {
    std::string text = "[";
    for (int i = 0; i < 1000; ++i) text.append(i == 0 ? "" : ",").append(unit);
    text += "]";
    CHECK(ParseJson(text, "x.json", 16).ok());
    // Each of the thousand takes more than 30 bytes.
    const absl::Status status = ParseJson(text, "x.json", 16, 30'000).status();
    CHECK(IssueNumberOf(status) == kJsonTooLarge.number);
    CHECK(MessageOf(status).find("at most 30000 bytes") != std::string::npos);
  }
  // The limit of files that belong to a model, 32 MiB, with a text of 4 MiB.
  std::string text(4 << 20, ' ');
  for (std::size_t i = 0; i + 1 < text.size(); i += 3) text.replace(i, 3, "[],");
  CHECK(IssueNumberOf(ParseModelJson("[" + text + "[]]", "x.json").status()) == kJsonTooLarge.number);
}

TEST_CASE("keys count towards the memory that a value may take") {
  const std::string text = "{\"" + std::string(8192, 'k') + "\":1}";
  CHECK(ParseJson(text, "x.json", 4).ok());
  CHECK(IssueNumberOf(ParseJson(text, "x.json", 4, 4096).status()) == kJsonTooLarge.number);
}

TEST_CASE("values of different types differ, and null has nothing in it") {
  const std::vector<Json> values = {Json(nullptr), Json(false), Json(0), Json(""), Json::array(), Json::object()};
  for (std::size_t a = 0; a < values.size(); ++a) {
    for (std::size_t b = 0; b < values.size(); ++b) CHECK((values[a] == values[b]) == (a == b));
  }
  CHECK(Json(nullptr).size() == 0);
  CHECK(Json(nullptr).empty());
  CHECK(Json(false).size() == 1);
}

TEST_CASE("a deep value is built, copied, compared and released") {
  constexpr int kDepth = 1000;
  const std::string text = std::string(kDepth, '[') + std::string(kDepth, ']');
  const auto json = ParseModelJson(text, "x.json");
  REQUIRE(json.ok());
  const Json copy = *json;
  CHECK(copy == *json);
  CHECK(copy.dump() == text);
}

TEST_CASE("a value that is made in code reads back as it was made") {
  Json json = {{"text", "a"}, {"number", -3}, {"list", {1, 2.5, true, nullptr}}, {"empty", Json::array()}};
  json["late"] = std::vector<std::string>{"x", "y"};
  json["nested"]["deep"] = 1e300;
  json["list"].push_back({{"key", 1u}});
  CHECK(json.dump() == R"({"text":"a","number":-3,"list":[1,2.5,true,null,{"key":1}],"empty":[],"late":["x","y"],)"
                       R"("nested":{"deep":1e+300}})");
  CHECK(json.erase("number") == 1);
  CHECK_FALSE(json.contains("number"));
  CHECK(json["list"].at(1) == 2.5);
  CHECK(json["late"].get<std::vector<std::string>>() == std::vector<std::string>{"x", "y"});
  CHECK(json == *ParseJson(json.dump(2), "x.json", 8));
  CHECK_FALSE(Json(1) == Json(-1));
  CHECK(Json(1) == Json(1.0));
  CHECK_FALSE(Json(std::uint64_t{1} << 63) == Json(std::int64_t{1} << 62));
  CHECK_THROWS_AS(json.at("absent"), std::domain_error);
  CHECK_THROWS_AS(json["text"].get<int>(), std::domain_error);
  CHECK(Json("\xFF").dump(-1, ' ', true, Json::error_handler_t::replace) == R"("\ufffd")");
}

TEST_CASE("ParseJson is linear in the number of members") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":0";
  const auto json = ParseJson(text + "}", "x.json", 8);
  REQUIRE(json.ok());
  CHECK(json->size() == 200'000);
}

TEST_CASE("floats are spelled as Python's repr() does") {
  const std::pair<double, const char*> kCases[] = {{1e-06, "1e-06"},
                                                   {1e-12, "1e-12"},
                                                   {10000.0, "10000.0"},
                                                   {0.02, "0.02"},
                                                   {1e16, "1e+16"},
                                                   {1e15, "1000000000000000.0"},
                                                   {123456789012345680.0, "1.2345678901234568e+17"},
                                                   {0.0001, "0.0001"},
                                                   {0.00001, "1e-05"},
                                                   {5e-324, "5e-324"},
                                                   {1.7976931348623157e308, "1.7976931348623157e+308"},
                                                   {0.1, "0.1"},
                                                   {1.0 / 3, "0.3333333333333333"},
                                                   {-0.0, "-0.0"},
                                                   {0.0, "0.0"},
                                                   {6.0, "6.0"},
                                                   {2.5e-5, "2.5e-05"},
                                                   {1e22, "1e+22"},
                                                   {1e23, "1e+23"},
                                                   {9007199254740992.0, "9007199254740992.0"},
                                                   {0.05138911306858063, "0.05138911306858063"},
                                                   {100.0, "100.0"},
                                                   {-1e-7, "-1e-07"},
                                                   {1e100, "1e+100"},
                                                   {1.5e300, "1.5e+300"},
                                                   {static_cast<double>(0.05138911306858063f), "0.05138911306858063"},
                                                   {123.456, "123.456"},
                                                   {-1234.5, "-1234.5"},
                                                   {std::numeric_limits<double>::infinity(), "inf"},
                                                   {-std::numeric_limits<double>::infinity(), "-inf"},
                                                   {std::nan(""), "nan"}};
  for (const auto& [value, text] : kCases) CHECK(PythonFloatRepr(value) == text);
}

TEST_CASE("what PythonFloatRepr prints reads back equal") {
  std::uint64_t state = 1;
  for (int i = 0; i < 100'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    double value = 0;
    std::memcpy(&value, &state, sizeof value);
    if (!std::isfinite(value)) continue;
    REQUIRE(std::strtod(PythonFloatRepr(value).c_str(), nullptr) == value);
  }
}

TEST_CASE("DumpSorted gives the bytes of json.dumps(sort_keys=True, indent=2)") {
  const auto json = ParseJson(
      "{\"b\":[1,2.0,[],{}],\"a\xC3\xA9\xF0\x9F\x98\x80\":\"x\x7F\xE2\x80\xA8/\\\"\\\\\\n\\u0001\","
      "\"Z\":null,\"A\":true,\"n\":{\"y\":-1,\"x\":18446744073709551615}}",
      "x.json", 8);
  REQUIRE(json.ok());
  CHECK(DumpSorted(*json) == R"({
  "A": true,
  "Z": null,
  "a\u00e9\ud83d\ude00": "x\u007f\u2028/\"\\\n\u0001",
  "b": [
    1,
    2.0,
    [],
    {}
  ],
  "n": {
    "x": 18446744073709551615,
    "y": -1
  }
})");
  CHECK(DumpSorted(Json::object()) == "{}");
  CHECK(DumpSorted(Json(std::nan(""))) == "NaN");
  CHECK(DumpSorted(Json(-HUGE_VAL)) == "-Infinity");
  CHECK(DumpSorted(Json("\b\f\n\r\t")) == R"("\b\f\n\r\t")");
}

TEST_CASE("DumpSorted reproduces what transformers wrote") {
  for (const char* name : {"tiny_plain", "tiny_fp4", "tiny_bf16st", "tiny_bnb", "tiny_skip", "tiny_skip_src"}) {
    const std::string text = test::ReadBytes(std::string(Q4_TESTDATA "/checkpoints/") + name + "/config.json");
    const auto json = ParseJson(text, name, 64);
    REQUIRE(json.ok());
    CHECK(DumpSorted(*json) + "\n" == text);
  }
}

}  // namespace
}  // namespace q4
