// A weight begins with its description, whose name alone is certain to be of this layout; the others are found by their
// names. Nothing may be left over: a part that belongs to no weight would become a tensor of its own, and the weight
// that it belonged to would load as something else.
#include "formats/bnb/taken_over.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/bnb/bnb_issues.h"
#include "formats/bnb/layout.h"
#include "formats/bnb/quant_state.h"
#include "formats/bnb/weights.h"
#include "formats/q4/parts.h"

namespace q4 {
namespace {

constexpr std::string_view kPartSuffixes[] = {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"};

class TakeOver {
 public:
  TakeOver(const std::vector<const RandomAccessFile*>& files, std::vector<SourceTensor>& tensors)
      : files_(files), tensors_(tensors) {}

  absl::Status Run() {
    by_name_.reserve(tensors_.size());
    for (const SourceTensor& tensor : tensors_) by_name_.emplace(tensor.name, &tensor);
    for (const SourceTensor& tensor : tensors_) {
      if (tensor.name.find(kBnbQuantStateInfix) != std::string::npos) Q4_RETURN_IF_ERROR(Join(tensor));
    }
    if (joined_.empty()) return absl::OkStatus();
    Q4_RETURN_IF_ERROR(CheckRest());
    std::vector<SourceTensor> logical;
    logical.reserve(tensors_.size() - parts_.size());
    for (SourceTensor& tensor : tensors_) {
      const auto joined = joined_.find(&tensor);
      if (joined != joined_.end()) {
        logical.push_back(std::move(joined->second));
      } else if (!parts_.contains(&tensor)) {
        logical.push_back(std::move(tensor));
      }
    }
    tensors_ = std::move(logical);
    return absl::OkStatus();
  }

 private:
  const SourceTensor* Find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }

  absl::Status Wrong(const Issue& issue, const SourceTensor& in, std::string_view weight, std::string_view what) const {
    return Fail(issue, files_[in.place().file]->path(), fmt::format("tensor '{}'", weight), what);
  }

  absl::StatusOr<std::vector<std::uint8_t>> Read(const SourceTensor& tensor) const {
    std::vector<std::uint8_t> bytes(tensor.bytes);
    Q4_RETURN_IF_ERROR(files_[tensor.place().file]->ReadAt(tensor.place().offset, bytes));
    return bytes;
  }

  // Tables are equal in all weights of a model, but for those that are wrong.
  absl::StatusOr<std::shared_ptr<const std::vector<std::uint8_t>>> ReadTable(
      const SourceTensor& tensor, std::shared_ptr<const std::vector<std::uint8_t>>* last) const {
    Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> bytes, Read(tensor));
    if (*last == nullptr || **last != bytes) {
      *last = std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes));
    }
    return *last;
  }

  // The description in `tensor` and the weight that it describes.
  absl::StatusOr<BnbWeight> WeightOf(const SourceTensor& tensor, std::string* text) const {
    BnbWeight weight;
    weight.name = tensor.name.substr(0, tensor.name.find(kBnbQuantStateInfix));
    if (tensor.bytes > kBnbQuantStateBytes || tensor.dtype != DType::kU8 || !tensor.is_stored()) {
      return Wrong(kBnbQuantState, tensor, weight.name,
                   GotExpected(fmt::format("{} bytes of {}", tensor.bytes, DTypeName(tensor.dtype)),
                               fmt::format("a text of U8, at most {} bytes", kBnbQuantStateBytes)));
    }
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, Read(tensor));
    text->assign(bytes.begin(), bytes.end());
    std::string problem;
    std::optional<BnbQuantState> state = ParseBnbQuantState(*text, &problem);
    if (!state) return Wrong(kBnbQuantState, tensor, weight.name, problem);
    // Some loaders believe the name, others the text.
    if (!tensor.name.ends_with("__" + std::string(BnbQuantTypeName(state->scheme)))) {
      return Wrong(kBnbQuantState, tensor, weight.name, "its key '" + tensor.name + "' names another type");
    }
    if (state->elems == 0) return Wrong(kBnbQuantState, tensor, weight.name, "the shape has no elements");
    weight.state = *std::move(state);
    weight.quant_state = &tensor;
    weight.codes = Find(weight.name);
    weight.absmax = Find(weight.name + ".absmax");
    weight.quant_map = Find(weight.name + ".quant_map");
    weight.nested_absmax = Find(weight.name + ".nested_absmax");
    weight.nested_map = Find(weight.name + ".nested_quant_map");
    return weight;
  }

  absl::Status CheckParts(const BnbWeight& weight) const {
    if (weight.codes == nullptr) return Wrong(kBnbParts, *weight.quant_state, weight.name, "no codes");
    if (std::string problem = BnbPartProblem(weight); !problem.empty()) {
      return Wrong(kBnbParts, *weight.codes, weight.name, problem);
    }
    // A view of another tensor, in a file of PyTorch: no library stores a weight so.
    for (const SourceTensor* part : weight.tensors()) {
      if (!part->is_stored())
        return Wrong(kBnbParts, *part, weight.name, "'" + part->name + "' is a view that is not contiguous");
    }
    const Shape& shape = weight.codes->shape;
    if (shape.size() != 2 || shape[1] != 1) {
      return Wrong(kBnbParts, *weight.codes, weight.name,
                   "codes: " + GotExpected(ShapeString(shape), fmt::format("[{}, 1]", weight.codes->elems)));
    }
    // Loaders go by its presence.
    const SourceTensor* extra = weight.nested_absmax != nullptr ? weight.nested_absmax : weight.nested_map;
    if (!weight.state.nested && extra != nullptr) {
      return Wrong(kBnbParts, *extra, weight.name, "its quant_state is not nested, but there is '" + extra->name + "'");
    }
    return absl::OkStatus();
  }

  absl::Status Join(const SourceTensor& description) {
    std::string text;
    Q4_ASSIGN_OR_RETURN(const BnbWeight weight, WeightOf(description, &text));
    Q4_RETURN_IF_ERROR(CheckParts(weight));
    // A weight within a weight: its name is a part's of another.
    if (joined_.contains(weight.codes) || parts_.contains(weight.codes)) {
      return Wrong(kBnbParts, description, weight.name, "two quant_states");
    }
    const Q4Tensor described = Q4TensorOf(weight);
    auto source = std::make_shared<BnbSource>();
    static_cast<QuantFormat&>(*source) = described;
    source->nested_offset = described.nested_offset;
    source->quant_state = std::move(text);
    source->parts.push_back(*weight.codes);
    source->parts.push_back(*weight.absmax);
    if (weight.state.nested) source->parts.push_back(*weight.nested_absmax);
    Q4_ASSIGN_OR_RETURN(source->quant_map, ReadTable(*weight.quant_map, &last_map_));
    if (weight.state.nested) {
      Q4_ASSIGN_OR_RETURN(source->nested_map, ReadTable(*weight.nested_map, &last_nested_map_));
    }
    SourceTensor logical;
    logical.name = weight.name;
    logical.dtype = described.dtype;
    logical.recipe = SourceRecipe::kBnbCodes;
    logical.shape = described.shape;
    logical.elems = described.elems;
    logical.bytes = described.elems * ItemSize(described.dtype);
    for (const SourceTensor* part : weight.tensors()) {
      logical.extents.push_back(part->place());
      if (part != weight.codes) parts_.insert(part);
    }
    logical.bnb = std::move(source);
    joined_.emplace(weight.codes, std::move(logical));
    return absl::OkStatus();
  }

  absl::Status CheckRest() const {
    for (const SourceTensor& tensor : tensors_) {
      if (joined_.contains(&tensor)) continue;
      const bool taken = parts_.contains(&tensor);
      for (const std::string_view suffix : kPartSuffixes) {
        if (taken || !tensor.name.ends_with(suffix)) continue;
        return Wrong(kBnbParts, tensor, tensor.name, "it belongs to no weight");
      }
      // What packed codes look like.
      if (!taken && tensor.dtype == DType::kU8 && tensor.shape.size() == 2 && tensor.shape[1] == 1 &&
          tensor.name.ends_with(".weight")) {
        return Wrong(kBnbParts, tensor, tensor.name, "no quant_state");
      }
    }
    return absl::OkStatus();
  }

  const std::vector<const RandomAccessFile*>& files_;
  std::vector<SourceTensor>& tensors_;
  std::unordered_map<std::string_view, const SourceTensor*> by_name_;
  std::unordered_map<const SourceTensor*, SourceTensor> joined_;  // by the tensor of the codes
  std::set<const SourceTensor*> parts_;                           // of weights, but for their codes
  std::shared_ptr<const std::vector<std::uint8_t>> last_map_, last_nested_map_;
};

}  // namespace

absl::Status TakeOverBnb(const std::vector<const RandomAccessFile*>& files, std::vector<SourceTensor>* tensors) {
  return TakeOver(files, *tensors).Run();
}

}  // namespace q4
