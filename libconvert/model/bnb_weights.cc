// A weight is found by its description, because the name of that tensor alone is certain to be of this layout. The
// others are then looked up by their names. Sizes are compared with those that a container with the same description
// would have: the layouts of codes and scales are the same, so the rule of formats/q4/parts.h serves here too.
#include "libconvert/model/bnb_weights.h"

#include <optional>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "kernels/kernels.h"
#include "libconvert/model/model_issues.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

// The file with the codes is named, which is where a user looks first; the others may lie in other shards.
absl::Status Unusable(const Checkpoint& checkpoint, const BnbWeight& weight, const std::string& problem) {
  return Fail(kBnbWeight, checkpoint.FileOf(*weight.codes).path(), "tensor '" + weight.name + "'", problem);
}

}  // namespace

std::vector<const SourceTensor*> BnbWeight::tensors() const {
  std::vector<const SourceTensor*> all;
  for (const SourceTensor* tensor : {codes, quant_state, absmax, quant_map, nested_absmax, nested_map}) {
    if (tensor != nullptr) all.push_back(tensor);
  }
  return all;
}

absl::StatusOr<std::vector<BnbWeight>> FindBnbWeights(const Checkpoint& checkpoint) {
  std::vector<BnbWeight> weights;
  for (const SourceTensor& info : checkpoint.tensors()) {
    // A text above the limit is no description: it would be read whole.
    const std::size_t infix = info.name.find(kBnbQuantStateInfix);
    if (infix == std::string::npos || info.bytes > kBnbQuantStateBytes) continue;
    BnbWeight weight;
    weight.name = info.name.substr(0, infix);
    weight.quant_state = &info;
    weight.codes = checkpoint.Find(weight.name);
    // A description without codes is nothing to decode; lint reports it.
    if (weight.codes == nullptr) continue;
    std::string text(info.bytes, '\0');
    Q4_RETURN_IF_ERROR(checkpoint.Read(info, 0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
    std::string problem;
    std::optional<BnbQuantState> state = ParseBnbQuantState(text, &problem);
    // Its tensors then stay separate ones, and lint has the reason.
    if (!state) continue;
    weight.state = *std::move(state);
    // nullptr where one is absent, which CheckBnbWeight() tells whoever needs it.
    weight.absmax = checkpoint.Find(weight.name + ".absmax");
    weight.quant_map = checkpoint.Find(weight.name + ".quant_map");
    weight.nested_absmax = checkpoint.Find(weight.name + ".nested_absmax");
    weight.nested_map = checkpoint.Find(weight.name + ".nested_quant_map");
    weights.push_back(std::move(weight));
  }
  return weights;
}

absl::StatusOr<bool> HoldsBnbWeights(const Checkpoint& checkpoint) {
  Q4_ASSIGN_OR_RETURN(const std::vector<BnbWeight> weights, FindBnbWeights(checkpoint));
  return !weights.empty();
}

absl::Status CheckBnbWeight(const Checkpoint& checkpoint, const BnbWeight& weight) {
  // For the sizes of its parts.
  const Q4Tensor tensor = Q4TensorOf(weight);
  // Sizes in bytes, not shapes and dtypes: codes may pose as a wider dtype (Params4bit's quant_storage).
  const auto check_size = [&](const SourceTensor* part, std::string_view what, std::uint64_t bytes) -> absl::Status {
    if (part == nullptr) return Unusable(checkpoint, weight, fmt::format("no {}", what));
    if (part->bytes == bytes) return absl::OkStatus();
    return Unusable(
        checkpoint, weight,
        fmt::format("{}: {}", what, GotExpected(fmt::format("{} bytes", part->bytes), fmt::to_string(bytes))));
  };
  // The kernels decode with their own tables. A checkpoint with other values would be decoded wrongly without a word.
  const auto check_table = [&](const SourceTensor* part, std::string_view what,
                               std::span<const float> expected) -> absl::Status {
    Q4_RETURN_IF_ERROR(check_size(part, what, expected.size_bytes()));
    std::vector<float> table(expected.size());
    Q4_RETURN_IF_ERROR(
        checkpoint.Read(*part, 0, {reinterpret_cast<std::uint8_t*>(table.data()), expected.size_bytes()}));
    if (IsSameBnbTable(table, expected)) return absl::OkStatus();
    return Unusable(checkpoint, weight, fmt::format("{} holds other values than the library's", what));
  };
  Q4_RETURN_IF_ERROR(check_size(weight.codes, "codes", Q4PartRawBytes(tensor, Q4Part::kCodes)));
  Q4_RETURN_IF_ERROR(check_table(weight.quant_map, "quant_map", SchemeOf(weight.state).code_values()));
  // Each kind of scales has its own tensors; `absmax` exists in both, with another meaning and size.
  if (!weight.state.nested) return check_size(weight.absmax, "absmax", Q4PartRawBytes(tensor, Q4Part::kScales));
  Q4_RETURN_IF_ERROR(check_size(weight.absmax, "absmax", Q4PartRawBytes(tensor, Q4Part::kScaleCodes)));
  Q4_RETURN_IF_ERROR(check_size(weight.nested_absmax, "nested_absmax", Q4PartRawBytes(tensor, Q4Part::kScales2)));
  return check_table(weight.nested_map, "nested_quant_map", NestedMap());
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
