#include "formats/folder/pipeline_index.h"

#include <string>

#include "formats/base/status.h"
#include "formats/folder/pipeline_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

TEST_CASE("components are told from options, and sorted") {
  const PipelineIndex index = test::Must(ParsePipelineIndex(
      R"({"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "safety_checker": [null, null],
          "layers": [9, 18], "pair": ["a"], "is_distilled": true, "_private": ["a", "b"],
          "transformer": ["diffusers", "FluxTransformer2DModel"], "image_encoder": ["transformers", null]})",
      "p"));
  CHECK(index.class_name == "FluxPipeline");
  CHECK(index.code.empty());
  REQUIRE(index.members.size() == 2);
  CHECK(index.members[0].name == "transformer");
  CHECK(index.members[0].library == "diffusers");
  CHECK(index.members[0].class_name == "FluxTransformer2DModel");
  CHECK(index.members[1].name == "vae");
  CHECK(index.absent == std::vector<std::string>{"image_encoder", "safety_checker"});
}

TEST_CASE("the class of a pipeline may be code of its own") {
  const PipelineIndex index =
      test::Must(ParsePipelineIndex(R"({"_class_name": ["pipeline", "Mine"], "unet": ["diffusers", "U"]})", "p"));
  CHECK(index.class_name == "Mine");
  CHECK(index.code == "pipeline");
}

TEST_CASE("a component's name is an identifier") {
  for (const char* name : {"vae", "text_encoder_2", "_x", "X9", "a"}) CHECK(IsComponentName(name));
  for (const char* name : {"", "..", "a/b", "a.b", "2vae", "a-b", "a b", "/", "va\xc3\xa9", "a\\b"}) {
    INFO(name);
    CHECK_FALSE(IsComponentName(name));
    const std::string text = std::string("{\"vae\": [\"a\", \"b\"], \"") +
                             (*name == 'a' && name[1] == '\\' ? "a\\\\b" : name) + "\": [\"diffusers\", \"V\"]}";
    CHECK(IssueNumberOf(ParsePipelineIndex(text, "p").status()) == kPipelineForm.number);
  }
  CHECK(IsComponentName(std::string(64, 'n')));
  CHECK_FALSE(IsComponentName(std::string(65, 'n')));
}

TEST_CASE("what names no component is no pipeline") {
  for (const char* text : {"[]", "{}", "3", R"({"vae": "diffusers"})", R"({"vae": [null, null]})"}) {
    INFO(text);
    CHECK(IssueNumberOf(ParsePipelineIndex(text, "p").status()) == kPipelineForm.number);
  }
}

TEST_CASE("components are counted, absent ones and options not") {
  const auto issue_of = [](int count) {
    std::string text = R"({"absent": [null, null], "option": 3)";
    for (int i = 0; i < count; ++i) text += ", \"c" + std::to_string(i) + R"(": ["diffusers", "V"])";
    return IssueNumberOf(ParsePipelineIndex(text + "}", "p").status());
  };
  CHECK(issue_of(256) == 0);
  CHECK(issue_of(257) == kTooManyComponents.number);
}

}  // namespace
}  // namespace q4
