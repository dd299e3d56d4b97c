// What names, shapes and configurations say of weights of 8-bit floats. Hostile ones: tests/hostile/rows_fp8.py.
#include "formats/logical/fp8.h"

#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/logical/fp8_scales.h"
#include "formats/logical/logical_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

SourceTensor Stored(const std::string& name, DType dtype, const Shape& shape) {
  SourceTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = shape;
  REQUIRE(CountElements(shape, &tensor.elems));
  tensor.bytes = tensor.elems * ItemSize(dtype);
  tensor.extents.push_back({0, 0, tensor.bytes});
  return tensor;
}

std::vector<std::string> NamesOf(const std::vector<SourceTensor>& tensors) {
  std::vector<std::string> names;
  for (const SourceTensor& tensor : tensors) names.push_back(tensor.name);
  return names;
}

absl::Status Reads(const Fp8Section& section, std::vector<SourceTensor>* tensors,
                   std::vector<LeftOutFile>* gone = nullptr, Fp8Result* result = nullptr) {
  LeftOutList left_out;
  Fp8Result own;
  const auto path_of = [](const SourceTensor&) { return std::string("m.safetensors"); };
  const absl::Status status = ReadFp8Tensors(section, path_of, tensors, &left_out, result != nullptr ? result : &own);
  if (gone != nullptr) *gone = left_out.Take();
  return status;
}

// Number of the scale of an element, by the rule of source_tensor.h.
std::uint64_t ScaleOf(const ScaledF8& s, std::uint64_t matrix, std::uint64_t row, std::uint64_t column) {
  return matrix * s.matrix_step + row / s.block_rows * s.row_step + column / s.block_columns * s.column_step;
}

Json Parse(const std::string& text) { return *ParseModelJson(text, "config.json"); }

TEST_CASE("scales fit their weights by the sizes of blocks that a section names, by the usual ones, or by division") {
  const auto fit = [](const Shape& weight, const Shape& scale, std::vector<BlockSize> blocks, ScaledF8* out) {
    Fp8Section section;
    section.blocks = std::move(blocks);
    *out = ScaledF8();
    return FitScales(weight, scale, section, out);
  };
  ScaledF8 s;
  SECTION("blocks cover the edges in part") {
    REQUIRE(fit({200, 330}, {2, 3}, {{128, 128}}, &s));
    CHECK(ScaleOf(s, 0, 127, 127) == 0);
    CHECK(ScaleOf(s, 0, 128, 0) == 3);
    CHECK(ScaleOf(s, 0, 199, 329) == 5);
    REQUIRE(fit({200, 330}, {2, 3}, {}, &s));  // nobody says, and nothing divides
    CHECK(ScaleOf(s, 0, 128, 256) == 5);
  }
  SECTION("what the section names goes before what divides") {
    REQUIRE(fit({130, 130}, {2, 2}, {{128, 128}}, &s));
    CHECK(ScaleOf(s, 0, 127, 127) == 0);
    REQUIRE(fit({130, 130}, {2, 2}, {{64, 64}}, &s));  // it covers with 3 x 3: other blocks then
    CHECK(ScaleOf(s, 0, 64, 64) == 0);
    CHECK(ScaleOf(s, 0, 65, 65) == 3);
    CHECK_FALSE(fit({129, 129}, {2, 2}, {{64, 64}}, &s));
  }
  SECTION("one for all, for a row, for a column, for a matrix") {
    for (const Shape& one : {Shape{}, Shape{1}, Shape{1, 1}, Shape{1, 1, 1}}) {
      REQUIRE(fit({3, 5}, one, {{2, 2}}, &s));
      CHECK(ScaleOf(s, 0, 2, 4) == 0);
    }
    for (const Shape& rows : {Shape{3}, Shape{3, 1}}) {
      REQUIRE(fit({3, 5}, rows, {}, &s));
      CHECK(ScaleOf(s, 0, 2, 4) == 2);
    }
    REQUIRE(fit({2, 3, 5}, {2, 1, 5}, {}, &s));
    CHECK(ScaleOf(s, 1, 2, 4) == 9);
    REQUIRE(fit({2, 3, 5}, {2}, {}, &s));
    CHECK(ScaleOf(s, 1, 2, 4) == 1);
    REQUIRE(fit({2, 3, 5}, {1, 3, 1}, {}, &s));
    CHECK(ScaleOf(s, 1, 2, 4) == 2);
  }
  SECTION("ModelOpt's four dimensions") {
    REQUIRE(fit({256, 128}, {2, 1, 1, 1}, {}, &s));
    CHECK(ScaleOf(s, 0, 128, 127) == 1);
    CHECK_FALSE(fit({256, 128}, {2, 2, 1, 1}, {}, &s));
  }
  SECTION("and nothing else") {
    for (const Shape& scale : {Shape{5}, Shape{3, 1, 1}, Shape{2, 5}, Shape{0, 5}, Shape{0}, Shape{6, 5}}) {
      CHECK_FALSE(fit({3, 5}, scale, {}, &s));
    }
    CHECK_FALSE(fit({4}, {4}, {}, &s));
    CHECK_FALSE(fit({2, 3, 5}, {3, 3, 1}, {}, &s));
    CHECK_FALSE(fit({0, 5}, {2, 5}, {}, &s));
  }
}

TEST_CASE("a weight and its scale become one tensor, in the weight's place and of the model's type") {
  Fp8Section section;
  section.dtype = DType::kF16;
  std::vector<SourceTensor> tensors = {Stored("a.weight_scale_inv", DType::kF32, {1, 1}),
                                       Stored("norm.weight", DType::kBF16, {4}),
                                       Stored("a.weight", DType::kF8E5M2, {4, 6})};
  tensors[0].extents[0] = {1, 100, 4};
  tensors[2].extents[0] = {0, 40, 24};
  Fp8Result result;
  REQUIRE(Reads(section, &tensors, nullptr, &result).ok());
  CHECK(result.scaled == 1);
  CHECK(result.unscaled == 0);
  REQUIRE(NamesOf(tensors) == std::vector<std::string>{"norm.weight", "a.weight"});
  const SourceTensor& read = tensors[1];
  CHECK(read.recipe == SourceRecipe::kScaledF8);
  CHECK_FALSE(read.is_stored());
  CHECK(read.dtype == DType::kF16);
  CHECK(read.bytes == 48);
  REQUIRE(read.extents.size() == 2);
  CHECK(read.place().offset == 40);
  CHECK(read.extents[1].file == 1);
  CHECK(read.stored_bytes() == 28);
  CHECK(read.scaled->code == DType::kF8E5M2);
  const StoredParts parts = StoredPartsOf(read);
  CHECK(parts.names == std::vector<std::string_view>{"a.weight", "a.weight_scale_inv"});
  CHECK(parts.dtype == DType::kF8E5M2);
  CHECK(StoredPartsOf(tensors[0]).names.empty());
}

TEST_CASE("every dialect's names are paired, and what else they write is left out by name") {
  for (const auto& [weight, scale] : {std::pair{"a.weight", "a.weight_scale_inv"},
                                      {"a.weight", "a.weight_scale"},
                                      {"a.weight", "a.scale_weight"},
                                      {"a.weight", "a.qscale_weight"},
                                      {"a.weight", "a.scale"},
                                      {"e.up", "e.up_scale_inv"},
                                      {"e.up", "e.up_scale"},
                                      {"weight", "scale"}}) {
    INFO(scale);
    const std::string base = std::string(weight).substr(0, std::string(weight).find("weight"));
    std::vector<SourceTensor> tensors = {Stored(weight, DType::kF8E4M3, {4, 6}), Stored(scale, DType::kF32, {}),
                                         Stored("k_proj.k_scale", DType::kF32, {}),
                                         Stored("scaled_fp8", DType::kF8E4M3, {0}),
                                         Stored("norm.k_scale", DType::kF32, {64})};
    const std::string activation = base.ends_with("up") ? base + "_activation_scale" : base + "input_scale";
    tensors.push_back(Stored(activation, DType::kF32, {1}));
    std::vector<LeftOutFile> gone;
    REQUIRE(Reads({}, &tensors, &gone).ok());
    CHECK(NamesOf(tensors) == std::vector<std::string>{weight, "norm.k_scale"});
    CHECK(gone.size() == 3);
  }
}

TEST_CASE("where nothing speaks of scales the codes are the values, and where something does each weight has one") {
  const std::vector<SourceTensor> bare = {Stored("a.weight", DType::kF8E4M3, {4, 6})};
  std::vector<SourceTensor> tensors = bare;
  REQUIRE(Reads({}, &tensors).ok());
  CHECK(tensors[0].dtype == DType::kBF16);
  CHECK(tensors[0].extents.size() == 1);
  Fp8Section claimed;
  claimed.claimed = true;
  tensors = bare;
  CHECK(IssueNumberOf(Reads(claimed, &tensors)) == kFp8NoScale.number);
  tensors = {bare[0], Stored("b.weight", DType::kF8E4M3, {4, 6}), Stored("b.weight_scale", DType::kF32, {})};
  CHECK(IssueNumberOf(Reads({}, &tensors)) == kFp8NoScale.number);
  // A view with gaps, as files of other kinds may have it.
  tensors = bare;
  tensors[0].recipe = SourceRecipe::kScaledF8;
  CHECK(IssueNumberOf(Reads({}, &tensors)) == kFp8Form.number);
  // No codes at all: nothing changes.
  tensors = {Stored("a.weight", DType::kBF16, {4, 6}), Stored("a.weight_scale_inv", DType::kF32, {})};
  REQUIRE(Reads(claimed, &tensors).ok());
  CHECK(tensors.size() == 2);
}

TEST_CASE("compressed-tensors rounds to the type of its scales first") {
  Fp8Section section;
  section.rounds_to_scale = true;
  for (const auto& [scale, product] : {std::pair{DType::kF16, DType::kF16},
                                       {DType::kF32, DType::kF32},
                                       {DType::kU8, DType::kBF16},
                                       {DType::kF8E8M0, DType::kBF16}}) {
    std::vector<SourceTensor> tensors = {Stored("a.weight", DType::kF8E4M3, {4, 6}),
                                         Stored("a.weight_scale", scale, {4, 1})};
    REQUIRE(Reads(section, &tensors).ok());
    CHECK(tensors[0].scaled->product == product);
  }
}

TEST_CASE("the type of the model is what its configuration says") {
  CHECK(ModelDType(Parse("{}")) == DType::kBF16);
  CHECK(ModelDType(Parse(R"({"torch_dtype": "float16"})")) == DType::kF16);
  CHECK(ModelDType(Parse(R"({"dtype": "torch.float32", "torch_dtype": "float16"})")) == DType::kF32);
  CHECK(ModelDType(Parse(R"({"dtype": "float8_e4m3fn", "text_config": {"dtype": "float16"}})")) == DType::kF16);
  CHECK(ModelDType(Parse(R"({"dtype": 7, "text_config": []})")) == DType::kBF16);
}

TEST_CASE("a section names sizes of blocks") {
  Fp8Section section;
  REQUIRE(ReadFp8Section(Parse(R"({"weight_block_size": [128, 64], "config_groups": {
      "a": {"weights": {"block_structure": "32x16"}}, "b": {"weights": {"block_structure": [128, 64]}},
      "c": {"weights": null}}})"),
                         "config.json", "quantization_config", &section)
              .ok());
  CHECK(section.claimed);
  CHECK(section.blocks == std::vector<BlockSize>{{128, 64}, {32, 16}});
}

}  // namespace
}  // namespace q4
