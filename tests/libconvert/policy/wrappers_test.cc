// Names that wrappers changed. That the policy decides as without them is in architectures_test.cc.
#include "libconvert/policy/wrappers.h"

#include <string>
#include <vector>

#include "libconvert/policy/policy.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::vector<SourceTensor> Named(const std::vector<std::string>& names) {
  std::vector<SourceTensor> tensors;
  for (const std::string& name : names) {
    SourceTensor& tensor = tensors.emplace_back();
    tensor.name = name;
    tensor.shape = {2, 2};
    tensor.elems = 4;
  }
  return tensors;
}

std::vector<std::string> Unwrapped(const std::vector<std::string>& names) { return NameWrappers(Named(names)).names(); }

using Names = std::vector<std::string>;

TEST_CASE("wrappers are found in front, inside, and one in another") {
  CHECK(Unwrapped({"_orig_mod.lm_head.weight", "_orig_mod.model.norm.weight"}) ==
        Names{"lm_head.weight", "model.norm.weight"});
  CHECK(Unwrapped({"module.lm_head.weight", "module.model.norm.weight"}) ==
        Names{"lm_head.weight", "model.norm.weight"});
  CHECK(Unwrapped({"base_model.model.lm_head.weight", "base_model.model.a.b"}) == Names{"lm_head.weight", "a.b"});
  CHECK(Unwrapped({"module._orig_mod.base_model.model.head.weight", "module._orig_mod.base_model.model.a"}) ==
        Names{"head.weight", "a"});
  CHECK(Unwrapped({"base_model.model.module.head.weight", "base_model.model.module.a"}) == Names{"head.weight", "a"});
  CHECK(Unwrapped({"pretrained_model.lm_head.weight"}) == Names{"lm_head.weight"});
  // Inside, of a part of the names.
  CHECK(Unwrapped({"lm_head.weight", "model._orig_mod.layers.0.up.weight", "model._orig_mod.norm.weight"}) ==
        Names{"lm_head.weight", "model.layers.0.up.weight", "model.norm.weight"});
  CHECK(Unwrapped({"model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.up.weight", "head.weight"}) ==
        Names{"model.layers.0.up.weight", "head.weight"});
  CHECK(Unwrapped({"lm_head.weight", "model.module.layers.0.up.weight"}) ==
        Names{"lm_head.weight", "model.layers.0.up.weight"});
  CHECK(Unwrapped({"module.model.module.a", "module.head"}) == Names{"model.a", "head"});
  CHECK(Unwrapped({"module.module.a", "module.module.b"}) == Names{"a", "b"});
}

TEST_CASE("what a model itself is called so is no wrapper") {
  CHECK(Unwrapped({"lm_head.weight", "model.norm.weight"}).empty());
  // Other children stand beside it.
  CHECK(Unwrapped({"module.a", "head"}).empty());
  CHECK(Unwrapped({"model.module.a", "model.norm"}).empty());
  CHECK(Unwrapped({"base_model.model.a", "head"}).empty());
  // Parts of longer words, and the last part of a name.
  CHECK(Unwrapped({"module_list.a", "my_orig_mod.a", "a.module", "L_module.layers.0.b"}).empty());
  // Two names would become one, or one nothing.
  CHECK(Unwrapped({"_orig_mod.a", "a"}).empty());
  CHECK(Unwrapped({"_orig_mod"}).empty());
  CHECK(NameWrappers({}).empty());
}

TEST_CASE("the note counts the names, shows one, and is fit for a terminal") {
  const NameWrappers wrappers(
      Named({"a.weight", "b._orig_mod.x\x1b[2J", "b._orig_mod.module.y", "b._orig_mod.module.z"}));
  REQUIRE(!wrappers.empty());
  CHECK(wrappers.count() == 3);
  CHECK(wrappers.parts() == "_orig_mod.");  // "module" has a sibling, x
  CHECK(wrappers.first() == "b._orig_mod.x\x1b[2J");
  CHECK(wrappers.Note().find(
            "3 tensors hold what a wrapper put there (_orig_mod.; the first is 'b._orig_mod.x\\x1b[2J')") !=
        std::string::npos);
  CHECK(NameWrappers(Named({"a"})).Note().empty());
}

TEST_CASE("patterns see the stored names") {
  PolicyOptions options;
  options.patterns = {{false, "^module"}};
  const auto decisions =
      DecideTensors(Named({"module.model.layers.0.mlp.up_proj.weight", "module.lm_head.weight"}), "", options);
  REQUIRE(decisions.ok());
  for (const Decision& decision : *decisions) CHECK(decision.reason == "kept: --exclude '^module'");
}

}  // namespace
}  // namespace q4
