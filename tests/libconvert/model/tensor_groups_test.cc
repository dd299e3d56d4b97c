#include "libconvert/model/tensor_groups.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace q4 {
namespace {

std::string Groups(const std::vector<std::string_view>& names) {
  std::string text;
  for (const TensorGroup& group : GroupTensors(names)) text += "[" + group.layer + "|" + group.role + "]";
  return text;
}

TEST_CASE("layer and role of names as models have them") {
  CHECK(
      Groups({"model.embed_tokens.weight", "model.layers.7.self_attn.q_proj.weight",
              "model.layers.10.self_attn.q_proj.weight", "model.layers.10.self_attn.q_proj.bias", "lm_head.weight"}) ==
      "[|embed_tokens][model.layers.7|q_proj][model.layers.10|q_proj][model.layers.10|bias][|lm_head]");
  // BERT: what ends alike is told apart by its parents, and by no more of them than needed.
  CHECK(Groups({"encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.output.dense.weight",
                "encoder.layer.0.output.dense.weight", "encoder.layer.0.intermediate.dense.weight"}) ==
        "[encoder.layer.0|query][encoder.layer.0|attention.output.dense][encoder.layer.0|output.dense]"
        "[encoder.layer.0|intermediate.dense]");
  CHECK(Groups({"dec.0.self_attn.q_proj.weight", "dec.0.cross_attn.q_proj.weight"}) ==
        "[dec.0|self_attn.q_proj][dec.0|cross_attn.q_proj]");
}

TEST_CASE("experts share a role, fused or not, and are told apart from what is no expert") {
  CHECK(Groups({"model.layers.3.mlp.experts.0.down_proj.weight", "model.layers.3.mlp.experts.12.down_proj.weight",
                "model.layers.4.mlp.experts.down_proj", "model.layers.3.mlp.shared_expert.down_proj.weight",
                "model.layers.0.mlp.down_proj.weight", "model.layers.3.mlp.gate.weight"}) ==
        "[model.layers.3|experts.down_proj][model.layers.3|experts.down_proj][model.layers.4|experts.down_proj]"
        "[model.layers.3|shared_expert.down_proj][model.layers.0|mlp.down_proj][model.layers.3|gate]");
  CHECK(Groups({"experts.5.w1.weight"}) == "[|w1]");
}

TEST_CASE("a leading number is no layer, later numbers belong to the role") {
  CHECK(Groups({"0.auto_model.pooler.dense.weight"}) == "[|dense]");
  CHECK(Groups({"encoder.block.0.layer.0.wi.weight", "encoder.block.0.layer.1.wi.weight"}) ==
        "[encoder.block.0|0.wi][encoder.block.0|1.wi]");
  CHECK(Groups({"mlp.0.weight", "mlp.2.weight"}) == "[mlp.0|weight][mlp.2|weight]");
}

TEST_CASE("odd names have groups too") {
  CHECK(Groups({"", ".", "..", "weight", ".weight", "x", "a.1"}) == "[|][|][|][|weight][|weight][|x][a.1|]");
  const std::string dots(4096, '.');
  CHECK(GroupTensors({dots}).front().layer.empty());
}

TEST_CASE("natural order") {
  std::vector<std::string> names{"h.10", "h.2", "h.02", "h", "h.2.a", "g.11", "h.9999999999999999999999", "h.x", "h.1"};
  std::sort(names.begin(), names.end(), NaturalLess);
  CHECK(names == std::vector<std::string>{"g.11", "h", "h.1", "h.02", "h.2", "h.2.a", "h.10",
                                          "h.9999999999999999999999", "h.x"});
  for (const std::string& a : names) {
    CHECK_FALSE(NaturalLess(a, a));
    for (const std::string& b : names) CHECK((NaturalLess(a, b) || NaturalLess(b, a)) == (a != b));
  }
}

}  // namespace
}  // namespace q4
