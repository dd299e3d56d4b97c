// Follows the layout of bitsandbytes 0.50 as transformers 5.23 saves it; tests/formats/bnb/layout_test.cc pins the
// text and tests/cli/export_roundtrip.sh whole files. Names, dtypes and shapes are all made in BnbTensorsOf(), the
// description in BnbQuantStateJson(). What the library calls nested are the nested scales of a container, its
// nested_absmax are the group scales; both use groups of 256 blocks, so that scales are copied as they are.
#include "formats/bnb/layout.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"

namespace q4 {
namespace {

constexpr std::uint64_t kNestedBlock = 256;  // blocks of a group, fixed by the library
// One for each 8-bit scale code.
constexpr std::uint64_t kNestedMapEntries = 256;
constexpr std::uint64_t kCodeValues = 16;

// The schemes that the library reads, by its names for them.
constexpr std::array<std::pair<Q4Scheme, std::string_view>, 2> kBnbTypes = {
    {{Q4Scheme::kNf4, "nf4"}, {Q4Scheme::kFp4, "fp4"}}};

// Two codes to a byte; the last one has a byte for itself when the number of elements is odd. Written so that neither
// this nor the next function can wrap.
std::uint64_t PackedCodeBytes(std::uint64_t elems) { return elems / 2 + elems % 2; }

std::uint64_t NestedGroups(std::uint64_t blocks) { return blocks / kNestedBlock + (blocks % kNestedBlock != 0); }

// The product cannot wrap: all shapes here come from a tensor of a validated container, of less than 2^48 elements.
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

// Names of torch.dtype without "torch.". Only those that a quantized weight, its storage or a configuration can have.
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
  // Put together by hand: the separators must be ", " and ": ", and the members in the order of the library's
  // dictionary. No string among them needs an escape.
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
  // A column: the library flattens a weight before it packs it.
  tensors.push_back(Make(BnbPart::kCodes, name, storage, {PackedCodeBytes(weight.elems) / ItemSize(storage), 1}));
  tensors.push_back(Make(BnbPart::kAbsmax, name + ".absmax", weight.nested ? DType::kU8 : DType::kF32, {blocks}));
  tensors.push_back(Make(BnbPart::kQuantMap, name + ".quant_map", DType::kF32, {kCodeValues}));
  if (weight.nested) {
    tensors.push_back(Make(BnbPart::kNestedAbsmax, name + ".nested_absmax", DType::kF32, {NestedGroups(blocks)}));
    tensors.push_back(Make(BnbPart::kNestedQuantMap, name + ".nested_quant_map", DType::kF32, {kNestedMapEntries}));
  }
  // Loaders know a 4-bit weight, and its type, by this key.
  tensors.push_back(Make(BnbPart::kQuantState,
                         fmt::format("{}.quant_state.bitsandbytes__{}", name, BnbQuantTypeName(weight.scheme)),
                         DType::kU8, {BnbQuantStateJson(weight).size()}));
  return tensors;
}

}  // namespace q4
