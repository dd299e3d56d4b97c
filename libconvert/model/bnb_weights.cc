// A weight is found by its description, because the name of that tensor alone is certain to be of this layout. The
// others are then looked up by their names. Sizes are compared with those that a container with the same description
// would have: the layouts of codes and scales are the same, so the rule of formats/q4/parts.h serves here too.
#include "libconvert/model/bnb_weights.h"

#include <optional>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/bnb/quant_state.h"
#include "libconvert/model/model_issues.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

// The file with the codes is named, which is where a user looks first; the others may lie in other shards.
absl::Status Unusable(const Checkpoint& checkpoint, const BnbWeight& weight, const std::string& problem) {
  return Fail(kBnbWeight, checkpoint.FileOf(*weight.codes).path(), "tensor '" + weight.name + "'", problem);
}

}  // namespace

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
  if (const std::string problem = BnbPartProblem(weight); !problem.empty()) {
    return Unusable(checkpoint, weight, problem);
  }
  // The kernels decode with their own tables. A checkpoint with other values would be decoded wrongly without a word.
  const auto check_table = [&](const SourceTensor& part, std::string_view what,
                               std::span<const float> expected) -> absl::Status {
    std::vector<float> table(expected.size());
    Q4_RETURN_IF_ERROR(
        checkpoint.Read(part, 0, {reinterpret_cast<std::uint8_t*>(table.data()), expected.size_bytes()}));
    if (IsSameBnbTable(table, expected)) return absl::OkStatus();
    return Unusable(checkpoint, weight, fmt::format("{} holds other values than the library's", what));
  };
  Q4_RETURN_IF_ERROR(check_table(*weight.quant_map, "quant_map", SchemeOf(weight.state).code_values()));
  if (!weight.state.nested) return absl::OkStatus();
  return check_table(*weight.nested_map, "nested_quant_map", NestedMap());
}

}  // namespace q4
