#include "formats/source/named_weights.h"

#include <string>

#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

std::string Config(const std::string& value) {
  return "{\"model_type\": \"llama\", \"transformers_weights\": " + value + "}";
}

std::string Weights(const std::string& tensor) {
  test::SafetensorsBuilder builder;
  builder.Add(tensor, "F32", {2}, std::string(8, '\1'));
  return builder.Build();
}

TEST_CASE("a configuration names weights as transformers reads it", "[named_weights]") {
  const auto name_of = [](const std::string& text) { return test::Must(NamedWeightsOf(text, "config.json")); };
  CHECK(name_of("{}") == "");
  CHECK(name_of("no JSON, transformers_weights") == "");
  CHECK(name_of("[\"transformers_weights\"]") == "");
  CHECK(name_of(Config("null")) == "");
  CHECK(name_of(Config("\"x.safetensors\"")) == "x.safetensors");
  CHECK(name_of(Config("\"x.safetensors.index.json\"")) == "x.safetensors.index.json");
  CHECK(name_of("{\"transformers\\u005fweights\": \"x.safetensors\"}") == "x.safetensors");
  // Of a member that comes twice the last one counts.
  CHECK(name_of("{\"transformers_weights\": \"a.safetensors\", \"transformers_weights\": \"b.safetensors\"}") ==
        "b.safetensors");
  // AutoModelForCausalLM makes a model of the inner one.
  for (const char* inner : {"{\"text_config\": {\"transformers_weights\": \"x.safetensors\"}}",
                            "{\"a\": [1, {\"b\": {\"transformers_weights\": 1}}]}"}) {
    CHECK(IssueNumberOf(NamedWeightsOf(inner, "config.json").status()) == kNamedWeights.number);
  }
  CHECK(name_of("{\"text_config\": {\"transformers_weights\": null}}") == "");
  for (const char* value : {"1", "[]", "\"\"", "\"x.bin\"", "\"adapter_model.bin\"", "\"a/x.safetensors\"",
                            "\"../x.safetensors\"", "\"/x.safetensors\"", "\".safetensors\"", "\"C:x.safetensors\""}) {
    INFO(value);
    CHECK(IssueNumberOf(NamedWeightsOf(Config(value), "config.json").status()) == kNamedWeights.number);
  }
}

TEST_CASE("what redirects a loader is dropped at any depth, and nothing else", "[named_weights]") {
  const auto dropped = [](const std::string& text) {
    Json json = test::Must(ParseModelJson(text, "config.json"));
    return DropRedirects(&json) ? DumpSorted(json) : "";
  };
  for (const char* text :
       {"{}", "[]", "1", R"({"attn_implementation": "sdpa", "a": {"_attn_implementation": "flash_attention_2"}})",
        R"({"attn_implementation": {"text_config": "eager"}, "model": "owner/name"})"}) {
    INFO(text);
    CHECK(dropped(text) == "");
  }
  for (const char* text :
       {R"({"a": 1, "transformers_weights": null})", R"({"a": 1, "attn_implementation": "owner/kernel"})",
        R"({"a": 1, "_attn_implementation": "paged|owner/kernel@main:fn"})",
        R"({"a": 1, "experts_implementation": {"x": ["owner/k"]}})", R"({"a": 1, "_experts_implementation": "o/k"})"}) {
    INFO(text);
    CHECK(dropped(text) == "{\n  \"a\": 1\n}");
  }
  CHECK(dropped(R"({"x": [{"transformers_weights": "a"}]})") == "{\n  \"x\": [\n    {}\n  ]\n}");
}

TEST_CASE("a checkpoint is the weights that its configuration names", "[named_weights]") {
  test::TempDir dir;
  dir.Write("model.safetensors", Weights("usual"));
  dir.Write("other.safetensors", Weights("named"));
  dir.Write("config.json", Config("\"other.safetensors\""));
  const auto open = [&](const std::string& path) { return OpenCheckpoint(PosixFileSystem(), path); };
  const auto found = test::Must(open(dir.path()));
  REQUIRE(found->tensors().size() == 1);
  CHECK(found->tensors()[0].name == "named");
  // What is not read is named, for it looks like a model.
  bool told = false;
  for (const LeftOutFile& file : found->left_out()) told = told || (file.name == "model.safetensors" && file.warning);
  CHECK(told);

  // Who gives a file gets that one, and hears of the other.
  const auto given = test::Must(open(dir.File("model.safetensors")));
  CHECK(given->tensors()[0].name == "usual");
  bool noted = false;
  for (const Note& note : given->notes()) {
    noted = noted || (note.warning && note.text.find("'other.safetensors'") != std::string::npos);
  }
  CHECK(noted);

  dir.Write("config.json", Config("\"none.safetensors\""));
  CHECK(IssueNumberOf(open(dir.path()).status()) == kNamedWeights.number);
  dir.Write("config.json", Config("\"../other.safetensors\""));
  CHECK(IssueNumberOf(open(dir.path()).status()) == kNamedWeights.number);
  dir.Write("config.json", Config("\"o.safetensors.index.json\""));
  dir.Write("o.safetensors.index.json", R"({"weight_map": {"named": "other.safetensors"}})");
  CHECK(test::Must(open(dir.path()))->tensors()[0].name == "named");
}

}  // namespace
}  // namespace q4
