// Weights of 8-bit floats and their scales. The input is a quantization_config up to its first NUL, and tensors of
// names that belong together or nearly do, of any type and shape. Where all is accepted, every weight has scales that
// it uses from the first to the last, all lie in the file, and no tensor is lost: it stays as it was, in its place, or
// is a scale of one weight, or is named as left out.
#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/folder/left_out.h"
#include "formats/logical/fp8.h"
#include "formats/logical/fp8_section.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/named_tensors.h"

namespace q4::fuzz {
namespace {

constexpr std::array<std::string_view, 5> kStems = {"", "a.", "b.c.", "experts.", "a.weight."};
constexpr std::array<std::string_view, 22> kLeaves = {"weight",
                                                      "weight_scale_inv",
                                                      "weight_scale",
                                                      "scale_weight",
                                                      "qscale_weight",
                                                      "scale",
                                                      "up",
                                                      "up_scale_inv",
                                                      "up_scale",
                                                      "up_activation_scale",
                                                      "input_scale",
                                                      "scale_input",
                                                      "k_scale",
                                                      "kv_cache_scaling_factor",
                                                      "scaled_fp8",
                                                      "comfy_quant",
                                                      "weight_zero_point",
                                                      "weight_scales",
                                                      "scales",
                                                      "bias",
                                                      "x_scale_inv",
                                                      "weight_scale_inv_scale"};

constexpr std::array<DType, 8> kFp8Types = {DType::kF8E4M3, DType::kF8E4M3, DType::kF8E5M2, DType::kF32,
                                            DType::kF32,    DType::kBF16,   DType::kF8E8M0, DType::kU8};
// Those around the usual blocks, and two that only products make too large.
constexpr std::array<std::uint64_t, 8> kFp8Sizes = {
    127, 128, 129, 255, 256, 384, std::uint64_t{1} << 24, std::uint64_t{1} << 40};
constexpr TensorWords kFp8Words = {kStems, kLeaves, kFp8Types, kFp8Sizes, 200, 9};

void CheckScaled(const SourceTensor& read, const SourceTensor& codes, const std::vector<SourceTensor>& before,
                 const Fp8Section& section, std::set<std::string>* scales) {
  Q4_FUZZ_CHECK(IsFp8(codes.dtype) && read.scaled != nullptr && read.scaled->code == codes.dtype);
  Q4_FUZZ_CHECK(read.dtype == section.dtype && read.shape == codes.shape && read.elems == codes.elems);
  Q4_FUZZ_CHECK(read.bytes == read.elems * ItemSize(read.dtype));
  const ScaledF8& s = *read.scaled;
  Q4_FUZZ_CHECK(s.block_rows != 0 && s.block_columns != 0);
  std::uint64_t count = 1;
  if (s.scale_name.empty()) {
    Q4_FUZZ_CHECK(read.extents.size() == 1);
  } else {
    Q4_FUZZ_CHECK(read.extents.size() == 2 && scales->insert(s.scale_name).second);
    const auto scale = std::find_if(before.begin(), before.end(),
                                    [&](const SourceTensor& tensor) { return tensor.name == s.scale_name; });
    Q4_FUZZ_CHECK(scale != before.end() && scale->dtype == s.scale && scale->is_stored());
    Q4_FUZZ_CHECK(read.extents[1].offset == scale->place().offset && read.extents[1].bytes == scale->bytes);
    count = scale->elems;
  }
  if (read.elems == 0) return;
  Q4_FUZZ_CHECK(s.rows != 0 && s.columns != 0 && read.elems % (s.rows * s.columns) == 0);
  const std::uint64_t matrices = read.elems / (s.rows * s.columns);
  // Numbers grow with each of the three, so that the last element has the last scale.
  const std::uint64_t last = (matrices - 1) * s.matrix_step + (s.rows - 1) / s.block_rows * s.row_step +
                             (s.columns - 1) / s.block_columns * s.column_step;
  Q4_FUZZ_CHECK(last + 1 == count);
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(fp8) {
  using namespace q4;
  const std::string_view all = fuzz::TextOf(data, size);
  const std::string_view text = all.substr(0, all.find('\0'));
  fuzz::FuzzInput input(data + std::min(text.size() + 1, size), size - std::min(text.size() + 1, size));
  Fp8Section section;
  if (const auto json = ParseModelJson(std::string(text), "config.json"); json.ok()) {
    section.dtype = ModelDType(*json);
    Q4_FUZZ_CHECK(IsQuantizable(section.dtype));
    if (const absl::Status status = ReadFp8Section(*json, "config.json", "quantization_config", &section);
        !status.ok()) {
      fuzz::CheckError(status);
    }
    for (const BlockSize& block : section.blocks) Q4_FUZZ_CHECK(block.first != 0 && block.second != 0);
    section.claimed = input.Bool();
  }
  section.rounds_to_scale = input.Bool();
  const std::vector<SourceTensor> before = fuzz::NamedTensorsOf(input, fuzz::kFp8Words);
  std::vector<SourceTensor> tensors = before;
  LeftOutList left_out;
  Fp8Result result;
  const auto path_of = [](const SourceTensor&) { return std::string("f.safetensors"); };
  const absl::Status status = ReadFp8Tensors(section, path_of, &tensors, &left_out, &result);
  if (!status.ok()) {
    fuzz::CheckError(status);
    return 0;
  }
  std::set<std::string> scales, gone;
  std::uint64_t read = 0;
  auto place = before.begin();
  for (const SourceTensor& tensor : tensors) {
    for (; place != before.end() && place->name != tensor.name; ++place) gone.insert(place->name);
    Q4_FUZZ_CHECK(place != before.end());
    Q4_FUZZ_CHECK(tensor.place().offset == place->place().offset && tensor.place().bytes == place->place().bytes);
    if (tensor.recipe == SourceRecipe::kScaledF8) {
      fuzz::CheckScaled(tensor, *place, before, section, &scales);
      ++read;
    } else {
      Q4_FUZZ_CHECK(tensor.recipe == place->recipe && tensor.dtype == place->dtype && tensor.scaled == nullptr);
    }
    ++place;
  }
  for (; place != before.end(); ++place) gone.insert(place->name);
  Q4_FUZZ_CHECK(read == result.scaled + result.unscaled && scales.size() == result.scaled);
  for (const std::string& scale : scales) Q4_FUZZ_CHECK(gone.erase(scale) == 1);
  fuzz::CheckLeftOut(&left_out, gone);
  return 0;
}
