#include "libconvert/policy/recipe.h"

#include <cstddef>
#include <string>
#include <string_view>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/policy/policy_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

absl::StatusOr<Recipe> Parse(const std::string& text) { return ParseRecipe(text, "recipe.json"); }

TEST_CASE("a rule keeps unset what it leaves out") {
  const auto recipe = Parse(R"({"rules": [{"match": "a.b", "keep": true}]})");
  REQUIRE(recipe.ok());
  REQUIRE(recipe->rules.size() == 1);
  const RecipeRule& rule = recipe->rules.front();
  CHECK(rule.match.text() == "a.b");
  CHECK(rule.keep == true);
  CHECK_FALSE(rule.scheme);
  CHECK_FALSE(rule.block_size);
  CHECK_FALSE(rule.double_quant);
  CHECK_FALSE(rule.encoder);
}

TEST_CASE("every field is read") {
  const auto recipe = Parse(
      R"({"rules": [{"encoder": "absmax", "double_quant": false, "type": "fp4", "block_size": 4096,
                     "match": ".", "keep": false}]})");
  REQUIRE(recipe.ok());
  const RecipeRule& rule = recipe->rules.front();
  CHECK(rule.scheme == Q4Scheme::kFp4);
  CHECK(rule.block_size == 4096U);
  CHECK(rule.double_quant == false);
  CHECK(rule.encoder == Q4Encoder::kAbsmax);
  CHECK(rule.keep == false);
}

TEST_CASE("a rule may name any encoder that can be asked for") {
  const auto recipe = Parse(R"({"rules": [{"match": "a", "encoder": "mse"}]})");
  REQUIRE(recipe.ok());
  CHECK(recipe->rules.front().encoder == Q4Encoder::kMse);
  CHECK_FALSE(Parse(R"({"rules": [{"match": "a", "encoder": "none"}]})").ok());
}

TEST_CASE("the example of the manual is a recipe that this version takes") {
  const auto manual = ReadWholeFile(PosixFileSystem(), std::string(Q4_TESTDATA) + "/../docs/policy.md", 1 << 20);
  REQUIRE(manual.ok());
  constexpr std::string_view kFence = "```json\n";
  std::size_t examples = 0;
  for (std::size_t at = manual->find(kFence); at != std::string::npos; at = manual->find(kFence, at)) {
    at += kFence.size();
    const absl::Status status = Parse(manual->substr(at, manual->find("```", at) - at)).status();
    INFO(status.ToString());
    CHECK(status.ok());
    ++examples;
  }
  CHECK(examples == 1);
}

TEST_CASE("the canonical text parses to itself") {
  const auto recipe = Parse(R"( {"rules": [ {"type": "nf4", "match": "a\"\\.é", "block_size": 32},
      {"match": "x", "keep": true, "encoder": "absmax", "double_quant": true} ]} )");
  REQUIRE(recipe.ok());
  const std::string text = RecipeText(*recipe);
  CHECK(text == R"({"rules":[{"block_size":32,"match":"a\"\\.é","type":"nf4"},)"
                R"({"double_quant":true,"encoder":"absmax","keep":true,"match":"x"}]})");
  const auto again = Parse(text);
  REQUIRE(again.ok());
  CHECK(RecipeText(*again) == text);
}

TEST_CASE("no rules are a recipe") {
  const auto recipe = Parse(R"({"rules": []})");
  REQUIRE(recipe.ok());
  CHECK(recipe->rules.empty());
  CHECK(RecipeText(*recipe) == R"({"rules":[]})");
}

TEST_CASE("what is not a recipe is refused with its place") {
  struct Case {
    std::string text, place;
  };
  const Case test = GENERATE(
      Case{"", ""}, Case{"{", ""}, Case{"[]", ""}, Case{"{}", ""}, Case{R"({"rules": {}})", ""},
      Case{R"({"rules": [], "version": 1})", "version"}, Case{R"({"rules": [], "rules": []})", "rules"},
      Case{R"({"rules": [1]})", "rule 1"}, Case{R"({"rules": [{"keep": true}]})", "rule 1"},
      Case{R"({"rules": [{"match": 1, "keep": true}]})", "rule 1"}, Case{R"({"rules": [{"match": "a"}]})", "rule 1"},
      Case{R"({"rules": [{"match": "a", "keep": true}, {"match": "b", "blocksize": 1}]})", "blocksize"},
      Case{R"({"rules": [{"match": "a", "keep": 1}]})", "keep"},
      Case{R"({"rules": [{"match": "a", "keep": null}]})", "keep"},
      Case{R"({"rules": [{"match": "a", "double_quant": "yes"}]})", "double_quant"},
      Case{R"({"rules": [{"match": "a", "type": "int4"}]})", "nf4"},
      Case{R"({"rules": [{"match": "a", "type": 4}]})", "type"},
      Case{R"({"rules": [{"match": "a", "encoder": "none"}]})", "encoder"},
      Case{R"({"rules": [{"match": "a", "block_size": 16}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "block_size": 96}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "block_size": 8192}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "block_size": 4294967360}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "block_size": -64}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "block_size": 64.0}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "block_size": "64"}]})", "block_size"},
      Case{R"({"rules": [{"match": "a", "keep": [[true]]}]})", ""});
  INFO(test.text);
  const auto recipe = Parse(test.text);
  REQUIRE_FALSE(recipe.ok());
  CHECK(ExitCodeOf(recipe.status()) == ExitCode::kInvalidInput);
  CHECK_THAT(MessageOf(recipe.status()), test::ContainsSubstring("recipe.json") && test::ContainsSubstring(test.place));
}

TEST_CASE("an expression that does not compile is a usage error that names rule and expression") {
  const auto recipe = Parse(R"({"rules": [{"match": "a", "keep": true}, {"match": "[z-a]", "keep": true}]})");
  REQUIRE_FALSE(recipe.ok());
  CHECK(ExitCodeOf(recipe.status()) == ExitCode::kUsage);
  CHECK_THAT(MessageOf(recipe.status()), test::ContainsSubstring("recipe.json") && test::ContainsSubstring("rule 2") &&
                                             test::ContainsSubstring("[z-a]"));
}

}  // namespace
}  // namespace q4
