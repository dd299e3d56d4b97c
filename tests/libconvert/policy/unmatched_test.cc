#include "libconvert/policy/unmatched.h"

#include <string>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/base/pattern_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

SourceTensor Tensor(const std::string& name, DType dtype, Shape shape) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.elems = 1;
  for (const std::uint64_t n : shape) tensor.elems *= n;
  tensor.shape = std::move(shape);
  return tensor;
}

const std::vector<SourceTensor>& Model() {
  static const std::vector<SourceTensor> kModel = {
      Tensor("model.layers.0.mlp.up_proj.weight", DType::kF32, {8, 64}),
      Tensor("model.norm.weight", DType::kF32, {64}),
      Tensor("model.position_ids", DType::kI64, {64}),
  };
  return kModel;
}

absl::StatusOr<std::vector<Note>> Check(const PolicyOptions& options) {
  return CheckPatterns(Model(), test::Must(DecideTensors(Model(), "", options)), options);
}

PolicyOptions Recipe(const std::string& rules) {
  PolicyOptions options;
  options.recipe = test::Must(ParseRecipe("{\"rules\":[" + rules + "]}", "r.json"));
  return options;
}

TEST_CASE("a pattern that matches no tensor is an error that names the nearest") {
  for (const bool include : {false, true}) {
    PolicyOptions options;
    options.patterns = {{include, "layer\\.0\\.mpl"}};
    const auto notes = Check(options);
    REQUIRE_FALSE(notes.ok());
    CHECK(IssueNumberOf(notes.status()) == kPatternUnmatched.number);
    CHECK(ExitCodeOf(notes.status()) == ExitCode::kUsage);
    const std::string message = MessageOf(notes.status());
    INFO(message);
    CHECK(message.find(include ? "--include 'layer\\.0\\.mpl'" : "--exclude 'layer\\.0\\.mpl'") != std::string::npos);
    CHECK(message.find("did you mean 'model.layers.0.mlp.up_proj.weight'?") != std::string::npos);
    CHECK(message.find("--allow-unmatched") != std::string::npos);
    options.allow_unmatched = true;
    const auto allowed = Check(options);
    REQUIRE(allowed.ok());
    REQUIRE(allowed->size() == 1);
    CHECK_FALSE((*allowed)[0].warning);
    CHECK((*allowed)[0].text.find("matches no tensor; did you mean 'model.layers.0") != std::string::npos);
  }
  const auto rule = Check(Recipe(R"({"match":"norm","keep":true},{"match":"qqqq","type":"fp4"})"));
  CHECK(MessageOf(rule.status()).find("recipe rule 2 'qqqq'") != std::string::npos);
}

TEST_CASE("a pattern that changes nothing is a warning where it wants something") {
  const auto warned = [](const PolicyOptions& options) {
    const auto notes = test::Must(Check(options));
    REQUIRE(notes.size() <= 1);
    if (notes.empty()) return std::string();
    CHECK(notes[0].warning);
    return notes[0].text;
  };
  PolicyOptions options;
  options.patterns = {{true, "position_ids"}};
  CHECK(warned(options).find("has no effect: of the 1 tensor that it matches none is quantized "
                             "(model.position_ids: dtype I64)") != std::string::npos);
  CHECK(warned(Recipe(R"({"match":"position_ids","keep":false})")).find("recipe rule 1") != std::string::npos);
  CHECK(warned(Recipe(R"({"match":"norm","block_size":128})")).find("none is quantized") != std::string::npos);
  // What is kept by the default as well, what works, and what a later rule takes back in part.
  CHECK(warned(Recipe(R"({"match":"norm","keep":true})")).empty());
  CHECK(warned(Recipe(R"({"match":"norm|mlp","block_size":128})")).empty());
  CHECK(warned(Recipe(R"({"match":"norm","keep":false})")).empty());
  options.patterns = {{false, "."}, {true, "mlp"}};
  CHECK(warned(options).empty());
}

TEST_CASE("a model without tensors, and no patterns") {
  PolicyOptions options;
  CHECK(test::Must(Check(options)).empty());
  options.patterns = {{false, "x"}};
  CHECK(test::Must(CheckPatterns({}, {}, options)).empty());
  options.patterns = {{false, ""}};
  CHECK(IssueNumberOf(DecideTensors(Model(), "", options).status()) == kPatternEmpty.number);
}

}  // namespace
}  // namespace q4
