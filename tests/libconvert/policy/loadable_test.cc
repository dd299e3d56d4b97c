// Which weights loaders can hold in 4 bits. tests/python/foreign_check.py loads some of each kind in transformers.
#include "libconvert/policy/loadable.h"

#include <string>
#include <vector>

#include "libconvert/policy/policy.h"
#include "libconvert/policy/rules.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::string Why(const std::string& name, const Shape& shape, const std::string& config = "") {
  SourceTensor tensor;
  tensor.name = name;
  tensor.shape = shape;
  tensor.dtype = DType::kI8;  // it does not count
  const auto why = WhyNoLinearLayer({tensor}, config);
  REQUIRE(why.ok());
  return why->front();
}

TEST_CASE("every reason of the policy is known to be of a linear layer or not") {
  for (const auto rules : {ModelRules(), GeneralRules()}) {
    for (const PolicyRule& rule : rules) {
      bool known = false;
      const bool linear = IsLinearReason(rule.reason, &known);
      INFO(rule.reason);
      CHECK(known);
      CHECK((linear || !rule.quantize));
    }
  }
  for (const std::string reason : {"not a layer's weight", "not a 2-D weight", "router",
                                   "output projection of nn.MultiheadAttention", "last module of the model"}) {
    bool known = false;
    IsLinearReason(reason, &known);
    CHECK(known);
  }
}

TEST_CASE("embeddings, norms, convolutions and bare parameters are no linear layers; heads are") {
  CHECK(Why("model.embed_tokens.weight", {8, 8}) == "embedding");
  CHECK(Why("_orig_mod.model.embed_tokens.weight", {8, 8}) == "embedding");
  CHECK(Why("model.norm.weight", {8}) == "not a 2-D weight");
  CHECK(Why("conv1.weight", {8, 8, 3}) == "not a 2-D weight");
  CHECK(Why("layers.0.q_proj.bias", {8}) == "not a layer's weight");
  CHECK(Why("encoder.block.0.wo.weight", {8, 8}, R"({"model_type": "t5"})") ==
        "kept in full precision by the model class");
  CHECK(Why("h.0.attn.c_attn.weight", {8, 8}, R"({"model_type": "gpt2"})") == "Conv1D weight (stored transposed)");
  CHECK(Why("lm_head.weight", {8, 8}).empty());
  CHECK(Why("score.weight", {8, 8}).empty());
  CHECK(Why("model.layers.0.mlp.up_proj.weight", {8, 8}).empty());
  CHECK(Why("model.layers.0.mlp.experts.up_proj", {2, 8, 8}).empty());
  CHECK(!WhyNoLinearLayer({}, "{").ok());
}

}  // namespace
}  // namespace q4
