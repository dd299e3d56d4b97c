// Follows the layout of bitsandbytes 0.50 as transformers 5.23 saves it; tests/formats/exchange/bnb_test.cc pins the
// text and tests/cli/export_roundtrip.sh whole files.
#include "formats/exchange/bnb.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"

namespace q4 {
namespace {

constexpr std::uint64_t kNestedBlock = 256;  // scales per nested scale, fixed by the library
constexpr std::uint64_t kNestedMapEntries = 256;
constexpr std::uint64_t kCodeValues = 16;

// The schemes that the library reads, by its names for them.
constexpr std::array<std::pair<Q4Scheme, std::string_view>, 2> kBnbTypes = {
    {{Q4Scheme::kNf4, "nf4"}, {Q4Scheme::kFp4, "fp4"}}};

std::uint64_t PackedCodeBytes(std::uint64_t elems) { return elems / 2 + elems % 2; }

std::uint64_t NestedGroups(std::uint64_t blocks) { return blocks / kNestedBlock + (blocks % kNestedBlock != 0); }

BnbTensor Make(BnbPart part, std::string key, DType dtype, Shape shape) {
  std::uint64_t bytes = ItemSize(dtype);
  for (const std::uint64_t extent : shape) bytes *= extent;
  return {part, std::move(key), dtype, std::move(shape), bytes};
}

}  // namespace

std::optional<Q4Scheme> SchemeOfBnbType(std::string_view name) {
  const auto known =
      std::find_if(kBnbTypes.begin(), kBnbTypes.end(), [name](const auto& row) { return row.second == name; });
  return known == kBnbTypes.end() ? std::nullopt : std::optional(known->first);
}

std::string_view BnbQuantTypeName(Q4Scheme scheme) {
  const auto known =
      std::find_if(kBnbTypes.begin(), kBnbTypes.end(), [scheme](const auto& row) { return row.first == scheme; });
  return known == kBnbTypes.end() ? std::string_view() : known->second;
}

std::string_view TorchDTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    case DType::kU8:
      return "uint8";
    default:
      return "";
  }
}

bool BnbStorageFits(std::uint64_t elems, DType storage) { return PackedCodeBytes(elems) % ItemSize(storage) == 0; }

std::string BnbQuantStateJson(const Q4Tensor& weight) {
  std::string shape;
  for (const std::uint64_t extent : weight.shape) shape += fmt::format("{}{}", shape.empty() ? "" : ", ", extent);
  std::string json =
      fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}])",
                  BnbQuantTypeName(weight.scheme), weight.block_size, TorchDTypeName(weight.dtype), shape);
  if (weight.nested) {
    // The library holds the offset as fp32 and prints it widened, with the digits of the fp64 value.
    json += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})", kNestedBlock,
                        PythonFloatRepr(static_cast<double>(weight.nested_offset)));
  }
  return json + "}";
}

std::vector<BnbTensor> BnbTensorsOf(const Q4Tensor& weight, DType storage) {
  const std::string& name = weight.name;
  const std::uint64_t blocks = weight.blocks();
  std::vector<BnbTensor> tensors;
  tensors.push_back(Make(BnbPart::kCodes, name, storage, {PackedCodeBytes(weight.elems) / ItemSize(storage), 1}));
  tensors.push_back(Make(BnbPart::kAbsmax, name + ".absmax", weight.nested ? DType::kU8 : DType::kF32, {blocks}));
  tensors.push_back(Make(BnbPart::kQuantMap, name + ".quant_map", DType::kF32, {kCodeValues}));
  if (weight.nested) {
    tensors.push_back(Make(BnbPart::kNestedAbsmax, name + ".nested_absmax", DType::kF32, {NestedGroups(blocks)}));
    tensors.push_back(Make(BnbPart::kNestedQuantMap, name + ".nested_quant_map", DType::kF32, {kNestedMapEntries}));
  }
  tensors.push_back(Make(BnbPart::kQuantState,
                         fmt::format("{}.quant_state.bitsandbytes__{}", name, BnbQuantTypeName(weight.scheme)),
                         DType::kU8, {BnbQuantStateJson(weight).size()}));
  return tensors;
}

}  // namespace q4
