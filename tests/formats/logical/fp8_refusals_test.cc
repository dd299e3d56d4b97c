// Tensors and sections for each rule of 8-bit floats, which break that one alone: in process, so that
// scripts/guard_mutations.py sees each rule fail when it is taken away.
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/logical/fp8.h"
#include "formats/logical/logical_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

SourceTensor Part(const std::string& name, DType dtype, const Shape& shape) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = shape;
  REQUIRE(CountElements(shape, &tensor.elems));
  tensor.bytes = tensor.elems * ItemSize(dtype);
  tensor.extents.push_back({0, 0, tensor.bytes});
  return tensor;
}

int IssueOf(std::vector<SourceTensor> tensors) {
  LeftOutList left_out;
  Fp8Result result;
  const auto path_of = [](const SourceTensor&) { return std::string("m.safetensors"); };
  return IssueNumberOf(ReadFp8Tensors({}, path_of, &tensors, &left_out, &result));
}

int SectionIssue(const std::string& text) {
  Fp8Section section;
  return IssueNumberOf(ReadFp8Section(*ParseModelJson(text, "config.json"), "config.json", "q", &section));
}

}  // namespace

TEST_CASE("weights of 8-bit floats that are not whole are refused", "[logical]") {
  const SourceTensor weight = Part("a.weight", DType::kF8E4M3, {4, 6});
  const SourceTensor scale = Part("a.weight_scale", DType::kF32, {});
  REQUIRE(IssueOf({weight, scale}) == 0);
  CHECK(IssueOf({weight, scale, Part("a.weight_scale_inv", DType::kF32, {})}) == kFp8ScaleTwice.number);
  CHECK(IssueOf({weight, Part("a.weight_scale", DType::kI32, {})}) == kFp8ScaleDType.number);
  CHECK(IssueOf({weight, Part("a.weight_scale", DType::kF32, {3, 5})}) == kFp8ScaleShape.number);
  CHECK(IssueOf({weight, Part("a.weight_scales", DType::kF32, {})}) == kFp8Form.number);
  CHECK(IssueOf({weight, Part("a.scales", DType::kF32, {})}) == kFp8Form.number);
  // In the order of a kernel, where there is more than one.
  const SourceTensor mark = Part("a.comfy_quant", DType::kU8, {20});
  CHECK(IssueOf({weight, scale, mark}) == 0);
  CHECK(IssueOf({weight, Part("a.weight_scale", DType::kF32, {4, 1}), mark}) == kFp8Form.number);
  for (const char* name : {"a.weight_zero_point", "a.weight_g_idx", "a.pre_quant_scale"}) {
    CHECK(IssueOf({weight, scale, Part(name, DType::kF32, {})}) == kFp8Form.number);
  }
  // A scale without its weight, and one whose weight is of another type; that of a weight is none.
  CHECK(IssueOf({weight, scale, Part("b.weight_scale", DType::kF32, {})}) == kFp8OrphanScale.number);
  CHECK(IssueOf({weight, scale, Part("b.up_scale_inv", DType::kF32, {})}) == kFp8OrphanScale.number);
  const SourceTensor plain = Part("b.weight", DType::kBF16, {4, 6}), whole = Part("b.weight", DType::kI8, {4, 6});
  CHECK(IssueOf({weight, scale, plain, Part("b.weight_scale", DType::kF32, {})}) == kFp8OrphanScale.number);
  CHECK(IssueOf({weight, scale, whole, Part("b.weight_scale", DType::kF32, {})}) == 0);
}

TEST_CASE("sections of 8-bit floats that say nothing that is known are refused", "[logical]") {
  REQUIRE(SectionIssue(R"({"weight_block_size": [128, 128], "transform_config": {"config_groups": {}}})") == 0);
  REQUIRE(SectionIssue(R"({"weight_block_size": null, "config_groups": {"a": {"weights": {}}}})") == 0);
  for (const char* size : {"[128]", "[0, 128]", "[128, -1]", "[128, 1.5]", "[\"a\", 128]", "128", "\"128\"", "\"128x\"",
                           "\"x128\"", "\"0x128\"", "\"128x128x128\"", "[128, 281474976710657]", "{}"}) {
    INFO(size);
    CHECK(SectionIssue("{\"weight_block_size\": " + std::string(size) + "}") == kFp8BlockSize.number);
    CHECK(SectionIssue(R"({"config_groups": {"a": {"weights": {"block_structure": )" + std::string(size) + "}}}}") ==
          kFp8BlockSize.number);
  }
  CHECK(SectionIssue(R"({"transform_config": {"config_groups": {"R1": {}}}})") == kFp8Form.number);
}

}  // namespace q4
