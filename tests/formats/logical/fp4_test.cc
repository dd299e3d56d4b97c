// What names, dtypes and shapes say of weights of 4-bit floats. Hostile ones: tests/hostile/rows_fp4.py.
#include "formats/logical/fp4.h"

#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/logical/fp4_layout.h"
#include "formats/logical/logical_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using Order = PackedF4::Order;
using Global = PackedF4::Global;

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

struct ReadF4 {
  std::vector<SourceTensor> tensors;
  Fp4Result result;
  std::vector<LeftOutFile> gone;
  absl::Status status;

  ReadF4(std::vector<SourceTensor> stored, DType dtype = DType::kBF16) : tensors(std::move(stored)) {
    LeftOutList left_out;
    const auto path_of = [](const SourceTensor&) { return std::string("m.safetensors"); };
    status = ReadF4Tensors(dtype, path_of, &tensors, &left_out, &result);
    gone = left_out.Take();
  }
};

TEST_CASE("shapes of codes and scales tell how they lie") {
  Shape shape;
  PackedF4 packed;
  REQUIRE(FitF4(F4Form::kMatrix, {4, 16}, {4, 2}, 16, &shape, &packed));
  CHECK(packed.order == Order::kRows);
  CHECK(shape == Shape{4, 32});
  REQUIRE(FitF4(F4Form::kMatrix, {3, 16, 5}, {3, 2, 5}, 16, &shape, &packed));
  CHECK(packed.order == Order::kColumns);
  CHECK(shape == Shape{3, 32, 5});
  CHECK(packed.rows == 32);
  CHECK(packed.columns == 5);
  REQUIRE(FitF4(F4Form::kMatrix, {3, 16, 8}, {3, 16, 1}, 16, &shape, &packed));
  CHECK(packed.order == Order::kRows);
  CHECK_FALSE(FitF4(F4Form::kMatrix, {16, 5}, {2, 5}, 16, &shape, &packed));  // experts alone are packed down
  CHECK_FALSE(FitF4(F4Form::kMatrix, {4, 12}, {4, 1}, 16, &shape, &packed));
  CHECK_FALSE(FitF4(F4Form::kMatrix, {16}, {2}, 16, &shape, &packed));
  CHECK_FALSE(FitF4(F4Form::kMatrix, {4, 16}, {4, 2, 1}, 16, &shape, &packed));
  REQUIRE(FitF4(F4Form::kTransposed, {2, 5, 3, 16}, {2, 5, 3}, 32, &shape, &packed));
  CHECK(packed.order == Order::kTransposed);
  CHECK(shape == Shape{2, 96, 5});
  CHECK(packed.rows == 96);
  REQUIRE(FitF4(F4Form::kBlocks, {5, 3, 16}, {5, 3}, 32, &shape, &packed));
  CHECK(shape == Shape{5, 96});
  CHECK_FALSE(FitF4(F4Form::kTransposed, {5, 3, 16}, {5, 3}, 32, &shape, &packed));
  CHECK_FALSE(FitF4(F4Form::kBlocks, {5, 3, 8}, {5, 3}, 32, &shape, &packed));
  CHECK_FALSE(
      FitF4(F4Form::kBlocks, {5, std::uint64_t{1} << 47, 16}, {5, std::uint64_t{1} << 47}, 32, &shape, &packed));
  CHECK(FitF4Global({3, 4, 32}, {}, &packed));
  CHECK(packed.global_step == 0);
  CHECK(FitF4Global({3, 4, 32}, {3, 1, 1}, &packed));
  CHECK(packed.global_step == 1);
  CHECK_FALSE(FitF4Global({3, 4, 32}, {2}, &packed));
  CHECK_FALSE(FitF4Global({3, 32}, {3}, &packed));
  CHECK_FALSE(FitF4Global({3, 4, 32}, {3, 4}, &packed));
}

TEST_CASE("codes of compressed-tensors become the weight that they stand for, in their place") {
  const ReadF4 read({Part("a.bias", DType::kBF16, {4}), Part("m.weight_global_scale", DType::kF32, {1}),
                     Part("m.weight_packed", DType::kU8, {4, 16}), Part("m.weight_scale", DType::kF8E4M3, {4, 2}),
                     Part("m.input_global_scale", DType::kF32, {1}), Part("m.weight_shape", DType::kI64, {2})},
                    DType::kF16);
  INFO(read.status);
  REQUIRE(read.status.ok());
  REQUIRE(read.tensors.size() == 2);
  CHECK(read.tensors[0].name == "a.bias");
  const SourceTensor& weight = read.tensors[1];
  CHECK(weight.name == "m.weight");
  CHECK(weight.dtype == DType::kF16);
  CHECK(weight.shape == Shape{4, 32});
  CHECK(weight.bytes == 256);
  CHECK_FALSE(weight.is_stored());
  CHECK(weight.packed->use == Global::kDivisor);
  CHECK(weight.packed->product == DType::kBF16);
  CHECK(weight.packed->joint == DType::kF32);
  CHECK(StoredPartsOf(weight).names ==
        std::vector<std::string_view>{"m.weight_packed", "m.weight_scale", "m.weight_global_scale"});
  CHECK(read.result.nvfp4 == 1);
  REQUIRE(read.gone.size() == 2);
  CHECK(read.gone[0].name == "m.input_global_scale");
  CHECK(read.gone[0].reason == "a scale of activations");
}

TEST_CASE("a scalar divisor leaves compressed-tensors' scales bfloat16; a factor of ModelOpt's never does") {
  for (const auto& [shape, dtype] : {std::pair(Shape{}, DType::kF32), std::pair(Shape{1}, DType::kBF16)}) {
    const ReadF4 divided({Part("m.weight_packed", DType::kU8, {4, 16}), Part("m.weight_scale", DType::kF8E4M3, {4, 2}),
                          Part("m.weight_global_scale", dtype, shape)});
    CHECK(divided.tensors.front().packed->joint == DType::kBF16);
    const ReadF4 times({Part("m.weight", DType::kU8, {4, 16}), Part("m.weight_scale", DType::kF8E4M3, {4, 2}),
                        Part("m.weight_scale_2", dtype, shape)});
    REQUIRE(times.status.ok());
    CHECK(times.tensors.front().packed->joint == DType::kF32);
    CHECK(times.tensors.front().packed->product == DType::kF32);
    CHECK(times.tensors.front().packed->use == Global::kFactor);
  }
}

TEST_CASE("bytes with scales of another number, and bytes without any, stay as they are") {
  for (const std::vector<SourceTensor>& stored :
       {std::vector<SourceTensor>{Part("m.weight", DType::kI8, {4, 16}), Part("m.weight_scale", DType::kF32, {4, 1})},
        std::vector<SourceTensor>{Part("m.weight", DType::kU8, {4, 24}), Part("m.weight_scale", DType::kU8, {4, 1})},
        std::vector<SourceTensor>{Part("m.weight", DType::kU8, {4, 16})},
        std::vector<SourceTensor>{Part("m.weight_packed", DType::kI32, {4, 4}),
                                  Part("m.weight_scale", DType::kF32, {4, 1})},
        std::vector<SourceTensor>{Part("m.up_blocks", DType::kU8, {2, 4, 2, 16}),
                                  Part("m.up_scales", DType::kU8, {2, 4, 2})},
        std::vector<SourceTensor>{Part("m.weight", DType::kU8, {4, 16}), Part("m.weight_scale", DType::kF8E4M3, {4, 2}),
                                  Part("m.weight_scale_2", DType::kF32, {}),
                                  Part("m.comfy_quant", DType::kU8, {18})}}) {
    const ReadF4 read(stored);
    CHECK(read.status.ok());
    CHECK(read.result.nvfp4 + read.result.mxfp4 == 0);
    CHECK(read.tensors.size() == stored.size());
    CHECK(read.tensors.front().is_stored());
  }
}

TEST_CASE("what is missing is named, and views with gaps are no codes") {
  ReadF4 read({Part("m.weight_packed", DType::kU8, {4, 16}), Part("m.weight_scale", DType::kF8E4M3, {4, 2})});
  CHECK(IssueNumberOf(read.status) == kF4NoScale.number);
  CHECK(std::string(read.status.message()).find("m.weight_global_scale") != std::string::npos);
  SourceTensor view = Part("m.weight_packed", DType::kU8, {4, 16});
  view.recipe = SourceRecipe::kStrided;
  ReadF4 strided({view, Part("m.weight_scale", DType::kU8, {4, 1})});
  CHECK(IssueNumberOf(strided.status) == kF4Form.number);
  CHECK(MayHoldF4({view}));
  CHECK_FALSE(MayHoldF4({Part("a", DType::kU8, {4}), Part("b", DType::kF32, {4, 4})}));
}

TEST_CASE("each rule of 4-bit floats is broken by names, types and shapes alone") {
  const SourceTensor weight = Part("m.weight", DType::kU8, {4, 16}),
                     scale = Part("m.weight_scale", DType::kF8E4M3, {4, 2});
  const SourceTensor global = Part("m.weight_scale_2", DType::kF32, {});
  const SourceTensor packed = Part("m.weight_packed", DType::kU8, {4, 16}),
                     exponents = Part("m.weight_scale", DType::kU8, {4, 1});
  struct Broken {
    std::vector<SourceTensor> stored;
    const Issue& issue;
    std::string says;
  };
  const std::vector<Broken> all = {
      {{packed}, kF4NoScale, "m.weight_scale"},
      {{packed, Part("m.weight_scale", DType::kF32, {4, 1})}, kF4ScaleDType, "F32"},
      {{packed, exponents, Part("m.weight", DType::kF32, {4, 32})}, kF4NameTaken, "'m.weight'"},
      {{packed, Part("m.weight_scale", DType::kU8, {4, 2})}, kF4ScaleShape, "[4, 2]"},
      {{packed, exponents, Part("m.weight_global_scale", DType::kI32, {1})}, kF4ScaleDType, "I32"},
      {{packed, exponents, Part("m.weight_global_scale", DType::kF32, {2})}, kF4ScaleShape, "[2]"},
      {{packed, exponents, Part("m.weight_zero_point", DType::kU8, {1})}, kF4Form, "m.weight_zero_point"},
      {{weight, scale}, kF4NoScale, "m.weight_scale_2"},
      {{weight, scale, global, Part("m.scale", DType::kF8E8M0, {4, 1})}, kF4ScaleTwice, "'m.scale'"},
      {{weight, scale, global, Part("v.weight", DType::kU8, {4, 16})}, kF4NoScale, "v.weight"},
      {{weight, scale, global, Part("v.weight_scale", DType::kF8E4M3, {4, 2})}, kF4OrphanScale, "is not there"},
      {{weight, scale, global, Part("v.weight_scale_2", DType::kF32, {})}, kF4OrphanScale, "is not there"},
      {{weight, scale, global, Part("v.weight", DType::kF32, {1}), Part("v.weight_scale", DType::kU8, {4, 2})},
       kF4OrphanScale,
       "its weight is F32"},
      {{Part("e.down_proj_blocks", DType::kU8, {2, 4, 2, 16})}, kF4NoScale, "e.down_proj_scales"},
      {{Part("e.down_proj_blocks", DType::kU8, {2, 4, 2, 16}), Part("e.down_proj_scales", DType::kF32, {2, 4, 2})},
       kF4ScaleDType,
       "F32"},
      {{Part("e.down_proj_blocks", DType::kU8, {2, 4, 2, 16}), Part("e.down_proj_scales", DType::kU8, {2, 4})},
       kF4ScaleShape,
       "[2, 4]"},
      // Each dimension is one that a file may claim, and the weight has more elements than the limit.
      {{Part("m.blocks", DType::kU8, {0, std::uint64_t{1} << 43, 16}),
        Part("m.scales", DType::kU8, {0, std::uint64_t{1} << 43})},
       kF4ScaleShape,
       "[0, 8796093022208]"},
  };
  for (const Broken& broken : all) {
    const ReadF4 read(broken.stored);
    INFO(broken.says << ": " << MessageOf(read.status));
    CHECK(IssueNumberOf(read.status) == broken.issue.number);
    CHECK(MessageOf(read.status).find(broken.says) != std::string::npos);
  }
}

TEST_CASE("no tensor is a part of two weights, in whichever order they come") {
  const SourceTensor a = Part("a", DType::kU8, {4, 16}), b = Part("a_weight", DType::kU8, {4, 16});
  const SourceTensor shared = Part("a_weight_scale", DType::kU8, {4, 1});
  const SourceTensor wide = Part("a", DType::kU8, {4, 256}), scale = Part("a_scale", DType::kU8, {4, 16});
  const SourceTensor of_scale = Part("a_scale_scale", DType::kU8, {4, 1});
  CHECK(ReadF4({a, shared}).status.ok());
  CHECK(ReadF4({wide, scale}).status.ok());
  for (const std::vector<SourceTensor>& stored :
       {std::vector{a, b, shared}, std::vector{shared, b, a}, std::vector{wide, scale, of_scale},
        std::vector{of_scale, scale, wide}}) {
    CHECK(IssueNumberOf(ReadF4(stored).status) == kF4PartTwice.number);
  }
}

TEST_CASE("names that only end as those of codes do are no codes") {
  for (const char* name : {"_packed", "m._packed", "_blocks", "m._blocks"}) {
    const ReadF4 read({Part(name, DType::kU8, {4, 16})});
    CHECK(read.status.ok());
    CHECK(read.tensors.size() == 1);
  }
}

TEST_CASE("a configuration that names rotations is refused") {
  const auto issue_of = [](const std::string& text) {
    const auto json = ParseModelJson(text, "config.json");
    REQUIRE(json.ok());
    return IssueNumberOf(CheckF4Section(*json, "config.json", "quantization_config"));
  };
  CHECK(issue_of("{}") == 0);
  CHECK(issue_of(R"({"transform_config": {}})") == 0);
  CHECK(issue_of(R"({"transform_config": {"config_groups": {"a": {}}}})") == kF4Form.number);
}

}  // namespace
}  // namespace q4
