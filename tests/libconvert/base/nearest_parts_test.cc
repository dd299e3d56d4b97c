#include "libconvert/base/nearest_parts.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace q4 {
namespace {

std::string Nearest(const std::string& wanted, const std::vector<std::string>& names) {
  std::string text;
  const auto for_each = [&](const std::function<void(std::string_view)>& visit) {
    for (const std::string& name : names) visit(name);
  };
  for (const std::string& name : NearestByParts(wanted, for_each)) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const std::vector<std::string> kBert = {
    "embeddings.word_embeddings.weight",          "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.0.output.dense.weight",        "encoder.layer.1.attention.self.query.weight",
    "encoder.layer.10.attention.self.key.weight", "pooler.dense.weight",
};

TEST_CASE("NearestByParts finds what was meant") {
  CHECK(Nearest("layers\\.0\\.", kBert) ==
        "encoder.layer.0.attention.self.query.weight, encoder.layer.0.output.dense.weight, "
        "encoder.layer.10.attention.self.key.weight");
  CHECK(Nearest("^puler", kBert).starts_with("pooler.dense.weight"));
  CHECK(Nearest("encoder.layer.0.attention.self.qurey.weight", kBert)
            .starts_with("encoder.layer.0.attention.self.query.weight"));
  CHECK(Nearest("word-embedding", kBert).starts_with("embeddings.word_embeddings.weight"));
  CHECK(Nearest("visoin_tower", {"language_model.a", "vision_tower.b"}) == "vision_tower.b");
  CHECK(Nearest("attn", {"x.self_attn.q", "y.mlp"}) == "x.self_attn.q");
}

TEST_CASE("NearestByParts is silent where nothing is near") {
  CHECK(Nearest("zzzzzz", kBert).empty());
  CHECK(Nearest("", kBert).empty());
  CHECK(Nearest("\\d+\\.$", kBert).empty());
  CHECK(Nearest("query", {}).empty());
}

TEST_CASE("NearestByParts bounds its work") {
  std::vector<std::string> many;
  std::string long_name;
  for (int i = 0; i < 50'000; ++i) many.push_back("part" + std::to_string(i) + ".weight");
  for (int i = 0; i < 1000; ++i) long_name += "x" + std::to_string(i) + ".";
  many.push_back(long_name);
  many.push_back(std::string(4096, 'y'));
  CHECK_FALSE(Nearest("prat7.weight", many).empty());
  CHECK(Nearest(std::string(100'000, 'w'), many).empty());
  std::string words;
  for (int i = 0; i < 10'000; ++i) words += "w" + std::to_string(i) + ".";
  CHECK(Nearest(words, many).empty());
}

TEST_CASE("the words of a message about a pattern") {
  const auto name_of = [](const std::string& name) -> std::string_view { return name; };
  CHECK(DidYouMeanByParts("puler", kBert, name_of) == "; did you mean 'pooler.dense.weight'?");
  CHECK(DidYouMeanByParts("word-embedding|puler", kBert, name_of).find("' or '") != std::string::npos);
  CHECK(DidYouMeanByParts("zzzzzz", kBert, name_of).empty());
}

}  // namespace
}  // namespace q4
