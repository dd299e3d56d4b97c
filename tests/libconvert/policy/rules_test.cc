#include "libconvert/policy/rules.h"

#include <algorithm>
#include <string>

#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("an item matches a whole name or what follows a dot") {
  CHECK(MatchesModule("lm_head", "lm_head"));
  CHECK(MatchesModule("lm_head", "model.lm_head"));
  CHECK_FALSE(MatchesModule("lm_head", "model.xlm_head"));
  CHECK_FALSE(MatchesModule("lm_head", "lm_head.dense"));
  CHECK(MatchesModule("^lm_head", "lm_head"));
  CHECK_FALSE(MatchesModule("^lm_head", "model.lm_head"));
  CHECK(MatchesModule("a b.c d", "x.b.c"));
  CHECK_FALSE(MatchesModule("a b.c d", "x.b.x.c"));
  CHECK_FALSE(MatchesModule("lm_head", ""));
}

TEST_CASE("a star stands for characters but dots") {
  CHECK(MatchesModule("*embed*", "model.embed_tokens"));
  CHECK(MatchesModule("*embed*", "embed"));
  CHECK(MatchesModule("*embed*_proj*", "patch_embed_x_embed_projection"));
  CHECK_FALSE(MatchesModule("*embed*", "embed.proj"));
  CHECK_FALSE(MatchesModule("^a*c", "a.c"));
  CHECK(MatchesModule("*", "x"));
}

TEST_CASE("a number sign stands for a number, two stars for any number of parts") {
  CHECK(MatchesModule("layers.#.fc", "model.layers.12.fc"));
  CHECK_FALSE(MatchesModule("layers.#.fc", "model.layers.x.fc"));
  CHECK_FALSE(MatchesModule("layers.#.fc", "model.layers..fc"));
  CHECK(MatchesModule("^qformer.**", "qformer.encoder.0"));
  CHECK(MatchesModule("^qformer.**", "qformer"));
  CHECK_FALSE(MatchesModule("^qformer.**", "model.qformer.encoder"));
  CHECK(MatchesModule("experts.**", "layers.0.experts.3.w1"));
  CHECK(MatchesModule("a.**.c", "x.a.b.b.c"));
  CHECK_FALSE(MatchesModule("a.**.c", "x.b.c"));
}

TEST_CASE("matching long hostile names takes no time") {
  std::string repeated, dotted;
  for (int i = 0; i < 400; ++i) repeated += "embed_proj";
  for (int i = 0; i < 2000; ++i) dotted += "a.";
  CHECK_FALSE(MatchesModule("*embed*_proj*embed*_proj*x", repeated));
  CHECK_FALSE(MatchesModule("b.**.c", dotted));
}

TEST_CASE("model names are matched as a whole") {
  CHECK(MatchesAny("t5 mt5", "mt5"));
  CHECK_FALSE(MatchesAny("t5 mt5", "umt5"));
  CHECK(MatchesAny("*ForCTC", "Wav2Vec2ForCTC"));
  CHECK_FALSE(MatchesAny("", "x"));
}

// What the matcher takes for granted.
TEST_CASE("the tables are well formed") {
  for (const auto rules : {ModelRules(), GeneralRules()}) {
    for (const PolicyRule& rule : rules) {
      for (const std::string_view list : {rule.models, rule.modules}) {
        INFO(list);
        CHECK(list.find("  ") == std::string_view::npos);
        CHECK_FALSE(list.starts_with(' '));
        CHECK_FALSE(list.ends_with(' '));
      }
      CHECK_FALSE(rule.modules.empty());
      CHECK_FALSE(rule.reason.empty());
    }
  }
  CHECK(std::none_of(ModelRules().begin(), ModelRules().end(),
                     [](const PolicyRule& rule) { return rule.models.empty(); }));
}

}  // namespace
}  // namespace q4
