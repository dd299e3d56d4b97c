#include "formats/base/json_edit.h"

#include <string>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

std::string Set(const std::string& text, const std::string& key, const Json& value) {
  const JsonEdit edit{key, value};
  return test::Must(EditJson(text, "x.json", {&edit, 1}));
}

std::string Remove(const std::string& text, const std::string& key) {
  const JsonEdit edit{key, std::nullopt};
  return test::Must(EditJson(text, "x.json", {&edit, 1}));
}

TEST_CASE("EditJson leaves every other byte") {
  const std::string odd =
      "\n{\r\n\t\"z\" : [ 1e-05,1.0, 0.1 , Infinity,-Infinity,NaN ],\r\n\t\"big\":123456789012345678901234567890,\r\n"
      "\t\"s\": \"\\ud800 \\u00e9 \\/ }]\\\"\",\r\n\t\"dup\":1, \"dup\" : {\"a\":1,\"a\":2}\r\n}\r\n \n";
  const std::string set = Set(odd, "q", {{"b", {1, 2.5}}, {"a", "x\ny"}});
  CHECK(set ==
        "\n{\r\n\t\"z\" : [ 1e-05,1.0, 0.1 , Infinity,-Infinity,NaN ],\r\n\t\"big\":123456789012345678901234567890,\r\n"
        "\t\"s\": \"\\ud800 \\u00e9 \\/ }]\\\"\",\r\n\t\"dup\":1, \"dup\" : {\"a\":1,\"a\":2},\r\n\t\"q\": {\r\n"
        "\t\t\"a\": \"x\\ny\",\r\n\t\t\"b\": [\r\n\t\t\t1,\r\n\t\t\t2.5\r\n\t\t]\r\n\t}\r\n}\r\n \n");
  CHECK(Remove(set, "q") == odd);
}

TEST_CASE("EditJson puts a new member where its writer would have") {
  // As transformers writes: sorted, two blanks.
  CHECK(Set("{\n  \"a\": 1,\n  \"c\": 3\n}\n", "b", 2) == "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}\n");
  CHECK(Set("{\n  \"b\": 1\n}\n", "a", Json::array()) == "{\n  \"a\": [],\n  \"b\": 1\n}\n");
  CHECK(Set("{\n  \"b\": 1\n}", "c", nullptr) == "{\n  \"b\": 1,\n  \"c\": null\n}");
  // Not sorted: at the end.
  CHECK(Set(R"({"z": 1, "a": 2})", "b", {{"k", {1, 2}}}) == R"({"z": 1, "a": 2, "b": {"k": [1, 2]}})");
  CHECK(Set(R"({"z":1,"a":2})", "b", 3) == R"({"z":1,"a":2,"b": 3})");
  CHECK(Set(R"({"z":1})", "zz", 3) == R"({"z":1, "zz": 3})");
  CHECK(Set("{}\n", "a", {{"b", 1}}) == "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n");
  CHECK(Set(" { } ", "a", 1) == " {\n  \"a\": 1\n} ");
}

TEST_CASE("EditJson replaces and removes a member under any spelling, twice or once") {
  CHECK(Set(R"({"a": {"x": [1, "}"]}, "b": 2})", "a", 5) == R"({"a": 5, "b": 2})");
  CHECK(Set(R"({"b": 2, "\u0061": 1})", "a", 5) == R"({"b": 2, "\u0061": 5})");
  CHECK(Set(R"({"a": 1, "b": 2, "a": 3})", "a", 5) == R"({"a": 5, "b": 2})");
  CHECK(Set(R"({"a":1,"a":2,"a":3})", "a", 5) == R"({"a":5})");
  CHECK(Remove(R"({"a": 1, "b": 2, "a": 3})", "a") == R"({"b": 2})");
  CHECK(Remove(R"({"b": 2, "a": 1, "a": 3})", "a") == R"({"b": 2})");
  CHECK(Remove(R"({"a": 1})", "a") == "{}");
  CHECK(Remove(R"({"b": {"a": 1}})", "a") == R"({"b": {"a": 1}})");
}

TEST_CASE("EditJson refuses what is no object") {
  CHECK(IssueNumberOf(EditJson("[1]", "x.json", {}).status()) == kJsonSyntax.number);
  CHECK(IssueNumberOf(EditJson("{", "x.json", {}).status()) == kJsonSyntax.number);
}

}  // namespace
}  // namespace q4
