// Weights of 4-bit floats and their scales. The input is tensors of names that belong together or nearly do, of any
// type and shape. Where all is accepted, every weight has codes and scales of exactly its size, all lie in the file,
// and no tensor is lost or used twice: it stays as it was, in its place, or is a part of one weight, or is named as
// left out. The order of the tensors changes nothing.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/folder/left_out.h"
#include "formats/logical/fp4.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/named_tensors.h"

namespace q4::fuzz {
namespace {

constexpr std::array<std::string_view, 6> kFp4Stems = {"",           "a.", "a.b.", "e.gate_up_proj", "e.down_proj",
                                                       "mlp1_weight"};
constexpr std::array<std::string_view, 32> kFp4Leaves = {"weight",
                                                         "weight_packed",
                                                         "weight_scale",
                                                         "weight_global_scale",
                                                         "weight_scale_2",
                                                         "scale",
                                                         "weight_scale_inv",
                                                         "weight_blocks",
                                                         "gate_up_proj_blocks",
                                                         "gate_up_proj_scales",
                                                         "weight_scales",
                                                         "_blocks",
                                                         "_scales",
                                                         ".blocks",
                                                         ".scales",
                                                         "_scale",
                                                         "_scale_2",
                                                         "_weight_scale",
                                                         "_weight_scale_2",
                                                         "_global_scale",
                                                         "_packed",
                                                         "",
                                                         "_scale_inv",
                                                         "weight_shape",
                                                         "weight_zero_point",
                                                         "weight_g_idx",
                                                         "input_scale",
                                                         "input_global_scale",
                                                         "_input_scale",
                                                         "k_scale",
                                                         "comfy_quant",
                                                         "_weight"};

constexpr std::array<DType, 8> kFp4Types = {DType::kU8,  DType::kI8,  DType::kF8E4M3, DType::kF8E8M0,
                                            DType::kF32, DType::kF16, DType::kBF16,   DType::kU8};
// Blocks and halves of them, and those that only products make too large.
constexpr std::array<std::uint64_t, 12> kFp4Sizes = {
    8, 16, 24, 32, 48, 64, 128, 15, 17, std::uint64_t{1} << 24, std::uint64_t{1} << 43, (std::uint64_t{1} << 48) - 1};
constexpr TensorWords kFp4Words = {kFp4Stems, kFp4Leaves, kFp4Types, kFp4Sizes, 128, 5};

using Fp4ByName = std::map<std::string, const SourceTensor*, std::less<>>;

Fp4ByName ByName(const std::vector<SourceTensor>& tensors) {
  Fp4ByName by_name;
  for (const SourceTensor& tensor : tensors) Q4_FUZZ_CHECK(by_name.emplace(tensor.name, &tensor).second);
  return by_name;
}

// A part of a weight: a tensor that was there, stored as it is, where the extent says. It leaves `unused`.
const SourceTensor& PartOf(const Fp4ByName& before, const std::string& name, const SourceExtent& extent,
                           std::set<std::string>* unused) {
  const auto part = before.find(name);
  Q4_FUZZ_CHECK(part != before.end() && unused->erase(name) == 1);
  const SourceTensor& tensor = *part->second;
  Q4_FUZZ_CHECK(tensor.is_stored() && extent.file == tensor.place().file && extent.offset == tensor.place().offset);
  Q4_FUZZ_CHECK(extent.bytes == tensor.bytes);
  return tensor;
}

void CheckPacked(const SourceTensor& read, const Fp4ByName& before, DType dtype, std::set<std::string>* unused) {
  Q4_FUZZ_CHECK(read.packed != nullptr && read.dtype == dtype);
  std::uint64_t elems = 0;
  Q4_FUZZ_CHECK(CountElements(read.shape, &elems) && elems == read.elems && read.bytes == elems * ItemSize(dtype));
  const PackedF4& packed = *read.packed;
  const bool has_global = packed.use != PackedF4::Global::kNone;
  Q4_FUZZ_CHECK(has_global != packed.global_name.empty() && read.extents.size() == (has_global ? 3 : 2));
  const SourceTensor& codes = PartOf(before, packed.code_name, read.extents[0], unused);
  const SourceTensor& scale = PartOf(before, packed.scale_name, read.extents[1], unused);
  Q4_FUZZ_CHECK(ItemSize(codes.dtype) == 1 && codes.elems * 2 == elems);
  Q4_FUZZ_CHECK(scale.dtype == packed.scale && scale.elems * packed.block == elems);
  Q4_FUZZ_CHECK(packed.block == (scale.dtype == DType::kF8E4M3 ? 16u : 32u));
  Q4_FUZZ_CHECK(has_global || scale.dtype != DType::kF8E4M3);
  std::uint64_t matrices = 1;
  if (elems != 0) {
    Q4_FUZZ_CHECK(packed.rows != 0 && packed.columns != 0 && elems % (packed.rows * packed.columns) == 0);
    matrices = elems / (packed.rows * packed.columns);
    // Blocks and bytes end where a line of codes does.
    Q4_FUZZ_CHECK((packed.order == PackedF4::Order::kRows ? packed.columns : packed.rows) % packed.block == 0);
  }
  if (!has_global) return;
  const SourceTensor& global = PartOf(before, packed.global_name, read.extents[2], unused);
  Q4_FUZZ_CHECK(IsQuantizable(global.dtype) && global.dtype == packed.global);
  Q4_FUZZ_CHECK(global.elems == 1 || (packed.global_step == 1 && (elems == 0 || global.elems == matrices)));
}

bool IsSameRead(const SourceTensor& a, const SourceTensor& b) {
  return a.name == b.name && a.recipe == b.recipe && a.dtype == b.dtype && a.shape == b.shape &&
         a.place().offset == b.place().offset && StoredPartsOf(a).names == StoredPartsOf(b).names;
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(fp4) {
  using namespace q4;
  fuzz::FuzzInput input(data, size);
  constexpr std::array<DType, 3> kModelTypes = {DType::kBF16, DType::kF16, DType::kF32};
  const DType dtype = kModelTypes[input.Below(kModelTypes.size())];
  const std::vector<SourceTensor> before = fuzz::NamedTensorsOf(input, fuzz::kFp4Words);
  const auto path_of = [](const SourceTensor&) { return std::string("f.safetensors"); };

  std::vector<SourceTensor> tensors = before;
  LeftOutList left_out;
  Fp4Result result;
  const absl::Status status = ReadF4Tensors(dtype, path_of, &tensors, &left_out, &result);
  std::vector<SourceTensor> reversed(before.rbegin(), before.rend());
  LeftOutList left_out_reversed;
  Fp4Result result_reversed;
  const absl::Status other = ReadF4Tensors(dtype, path_of, &reversed, &left_out_reversed, &result_reversed);
  Q4_FUZZ_CHECK(status.ok() == other.ok());
  if (!status.ok()) {
    fuzz::CheckError(status);
    fuzz::CheckError(other);
    return 0;
  }
  Q4_FUZZ_CHECK(tensors.size() == reversed.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Q4_FUZZ_CHECK(fuzz::IsSameRead(tensors[i], reversed[tensors.size() - 1 - i]));
  }

  const fuzz::Fp4ByName was = fuzz::ByName(before);
  fuzz::ByName(tensors);
  std::set<std::string> unused;
  for (const auto& [name, tensor] : was) unused.insert(name);
  std::uint64_t read = 0;
  auto place = before.begin();
  for (const SourceTensor& tensor : tensors) {
    const std::string& stored = tensor.recipe == SourceRecipe::kPackedF4 ? tensor.packed->code_name : tensor.name;
    while (place != before.end() && place->name != stored) ++place;
    Q4_FUZZ_CHECK(place != before.end());  // the order is kept
    if (tensor.recipe == SourceRecipe::kPackedF4) {
      fuzz::CheckPacked(tensor, was, dtype, &unused);
      ++read;
    } else {
      Q4_FUZZ_CHECK(fuzz::IsSameRead(tensor, *place) && tensor.packed == nullptr && unused.erase(tensor.name) == 1);
    }
  }
  Q4_FUZZ_CHECK(read == result.nvfp4 + result.mxfp4);
  Q4_FUZZ_CHECK(result.nvfp4 == result_reversed.nvfp4 && result.mxfp4 == result_reversed.mxfp4);
  Q4_FUZZ_CHECK(read == 0 || MayHoldF4(before));
  fuzz::CheckLeftOut(&left_out, unused);
  return 0;
}
