// Sizes are compared with those that a container with the same description would have: the layouts of codes and scales
// are the same, so the rule of formats/q4/parts.h serves here too.
#include "formats/bnb/weights.h"

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"

namespace q4 {
namespace {

constexpr std::uint64_t kQuantMapBytes = 16 * sizeof(float), kNestedMapBytes = 256 * sizeof(float);

}  // namespace

std::vector<const SourceTensor*> BnbWeight::tensors() const {
  std::vector<const SourceTensor*> all;
  for (const SourceTensor* tensor : {codes, quant_state, absmax, quant_map, nested_absmax, nested_map}) {
    if (tensor != nullptr) all.push_back(tensor);
  }
  return all;
}

std::string BnbPartProblem(const BnbWeight& weight) {
  const Q4Tensor tensor = Q4TensorOf(weight);
  struct Part {
    const SourceTensor* is;
    const char* name;
    std::optional<DType> dtype;
    std::uint64_t bytes;
  };
  const bool nested = weight.state.nested;
  std::vector<Part> parts = {{weight.codes, "codes", std::nullopt, Q4PartRawBytes(tensor, Q4Part::kCodes)},
                             {weight.quant_map, "quant_map", DType::kF32, kQuantMapBytes}};
  // `absmax` exists in both kinds, with another meaning and size.
  if (!nested) {
    parts.push_back({weight.absmax, "absmax", DType::kF32, Q4PartRawBytes(tensor, Q4Part::kScales)});
  } else {
    parts.push_back({weight.absmax, "absmax", DType::kU8, Q4PartRawBytes(tensor, Q4Part::kScaleCodes)});
    parts.push_back({weight.nested_absmax, "nested_absmax", DType::kF32, Q4PartRawBytes(tensor, Q4Part::kScales2)});
    parts.push_back({weight.nested_map, "nested_quant_map", DType::kF32, kNestedMapBytes});
  }
  for (const Part& part : parts) {
    if (part.is == nullptr) return fmt::format("no {}", part.name);
    if (part.is->bytes != part.bytes) {
      return fmt::format("{}: {}", part.name,
                         GotExpected(fmt::format("{} bytes", part.is->bytes), fmt::to_string(part.bytes)));
    }
    if (part.dtype && part.is->dtype != *part.dtype) {
      return fmt::format("{}: {}", part.name, GotExpected(DTypeName(part.is->dtype), DTypeName(*part.dtype)));
    }
  }
  return {};
}

Q4Tensor Q4TensorOf(const BnbWeight& weight) {
  const BnbQuantState& state = weight.state;
  Q4Tensor tensor;
  tensor.name = weight.name;
  tensor.dtype = state.dtype;
  tensor.shape = state.shape;
  tensor.elems = state.elems;
  static_cast<QuantFormat&>(tensor) = state;
  tensor.encoder = Q4Encoder::kAbsmax;
  tensor.nested_offset = static_cast<float>(state.nested_offset);
  return tensor;
}

}  // namespace q4
