#include "libconvert/base/name_pattern.h"

#include <string>

#include "formats/base/status.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

bool Found(std::string_view regex, std::string_view name) {
  const auto pattern = NamePattern::Parse(regex, "--include");
  INFO(regex);
  REQUIRE(pattern.ok());
  CHECK(pattern->text() == regex);
  return pattern->Matches(name);
}

TEST_CASE("a pattern is searched anywhere in a name, in Perl's syntax") {
  CHECK(Found("mlp", "model.layers.0.mlp.gate"));
  CHECK(!Found("^mlp", "model.layers.0.mlp.gate"));
  CHECK(!Found("mlp$", "model.layers.0.mlp.gate"));
  CHECK(!Found("MLP", "model.layers.0.mlp.gate"));
  CHECK(Found(R"(layers\.(0|31)\.)", "model.layers.31.mlp"));
  CHECK(!Found(R"(layers\.(0|31)\.)", "model.layers.3.mlp"));
  CHECK(Found(R"(\bh\.\d+\.[^.]{3}\w*$)", "h.12.attn"));
  CHECK(Found("^.$", "\u00e9"));  // one character, two bytes
  CHECK(!Found("a.b", "a\nb"));
}

TEST_CASE("no expression takes more than linear time or an unbounded stack") {
  const std::string name = std::string(200'000, 'a') + "c";
  CHECK(!Found("^((a*)*)*b?$", name));
  CHECK(!Found("(a+a+)+b", name));
  CHECK(Found("^(a|b|ab)*c$", name));
}

TEST_CASE("a pattern that cannot be compiled is a usage error that names it") {
  const auto issue_of = [](std::string_view regex) {
    const auto pattern = NamePattern::Parse(regex, "rule 3");
    INFO(regex);
    REQUIRE(!pattern.ok());
    CHECK(std::string(pattern.status().message()).find("rule 3") != std::string::npos);
    return IssueNumberOf(pattern.status());
  };
  CHECK(issue_of("(") == 1201);
  CHECK(issue_of("[a-") == 1201);
  CHECK(issue_of("*") == 1201);
  CHECK(issue_of("a(?!b)") == 1201);
  CHECK(issue_of(R"((a)\1)") == 1201);
  CHECK(issue_of("a{100000}") == 1201);
  CHECK(issue_of(R"((\pL{300}){3})") == 1201);  // more than its share of memory
  CHECK(issue_of("\xff") == 1202);
}

}  // namespace
}  // namespace q4
