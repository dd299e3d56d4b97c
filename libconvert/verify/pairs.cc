// By name; what has no partner is told with the best guess why.
#include "libconvert/verify/pairs.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "formats/bnb/taken_over.h"
#include "libconvert/judge/verify_issues.h"

namespace q4 {
namespace {

// A tensor that is missing and one that is extra count as one tensor renamed if they are equal in this.
using Likeness = std::pair<Shape, DType>;

// Reports tensors that only one side has. `missing` and `extra` are sorted by name.
void ReportUnpaired(const std::string& path, const std::vector<const SourceTensor*>& missing,
                    const std::vector<const Q4Tensor*>& extra, FindingList* findings) {
  std::map<Likeness, std::vector<const SourceTensor*>> missing_alike;
  std::map<Likeness, std::uint64_t> extra_alike;
  for (const SourceTensor* tensor : missing) missing_alike[{tensor->shape, tensor->dtype}].push_back(tensor);
  for (const Q4Tensor* tensor : extra) ++extra_alike[{tensor->shape, tensor->dtype}];

  // Only where both sides have exactly one candidate: layers of a model are alike, and a guess among them would
  // mislead.
  std::set<const SourceTensor*> renamed;
  for (const Q4Tensor* tensor : extra) {
    const Likeness likeness{tensor->shape, tensor->dtype};
    const auto alike = missing_alike.find(likeness);
    if (alike != missing_alike.end() && alike->second.size() == 1 && extra_alike[likeness] == 1) {
      renamed.insert(alike->second.front());
      findings->Add(tensor->name, kTensorRenamed, path, TensorPlace(tensor->name),
                    "in the source probably '" + alike->second.front()->name + "'");
    } else {
      findings->Add(tensor->name, kTensorExtra, path, TensorPlace(tensor->name));
    }
  }
  for (const SourceTensor* tensor : missing) {
    if (renamed.contains(tensor)) continue;
    findings->Add(tensor->name, kTensorMissing, path, TensorPlace(tensor->name));
  }
}

// The dtype that a source tensor must have in the container: its own, unless it is kept and was converted, or whoever
// quantized it had converted it before.
DType ExpectedDType(const SourceTensor& source, const Q4Tensor& stored, const PairRules& rules) {
  const std::optional<DType> keep_dtype = rules.keep_dtype;
  if (rules.is_original && IsQuantizable(source.dtype) && IsQuantizable(stored.dtype)) return stored.dtype;
  const bool is_converted = stored.scheme == Q4Scheme::kRaw && keep_dtype && IsQuantizable(source.dtype);
  return is_converted ? *keep_dtype : source.dtype;
}

}  // namespace

std::vector<TensorPair> PairTensors(const Q4Model& model, const Checkpoint& source, const NamePattern* only,
                                    const PairRules& rules, FindingList* findings) {
  const auto is_left_out = [only](const std::string& name) { return only != nullptr && !only->Matches(name); };
  std::vector<TensorPair> pairs;
  std::vector<const Q4Tensor*> extra;
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const Q4Model::Location& at = model.tensors()[i];
    const Q4Tensor& stored = model.tensor(at);
    if (is_left_out(stored.name)) continue;
    const std::string& path = model.reader(at).path();
    const SourceTensor* found = source.Find(stored.name);
    if (found == nullptr) {
      extra.push_back(&stored);
      continue;
    }
    // Shape before dtype, and either ends the comparison of the tensor: with another number of elements codes have no
    // counterparts.
    if (stored.shape != found->shape) {
      findings->Add(stored.name, kShapeDiffers, path, TensorPlace(stored.name),
                    GotExpected(ShapeString(stored.shape), ShapeString(found->shape)));
      continue;
    }
    const DType expected = ExpectedDType(*found, stored, rules);
    if (stored.dtype != expected) {
      findings->Add(stored.name, kDTypeDiffers, path, TensorPlace(stored.name),
                    GotExpected(DTypeName(stored.dtype), DTypeName(expected)));
      continue;
    }
    // CheckTreatments() tells, and there is nothing to compare.
    if (found->bnb != nullptr &&
        static_cast<const QuantFormat&>(*found->bnb) != static_cast<const QuantFormat&>(stored)) {
      continue;
    }
    pairs.push_back({&model.reader(at), &stored, found, i, {}});
  }

  // A shard that was opened alone does not tell which tensors the others have.
  std::vector<const SourceTensor*> missing;
  const bool is_whole = model.shards().size() == model.shards().front()->index().shard_count;
  for (const SourceTensor& tensor : source.tensors()) {
    if (is_whole && model.Find(tensor.name) == nullptr && !is_left_out(tensor.name)) missing.push_back(&tensor);
  }
  std::sort(missing.begin(), missing.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  ReportUnpaired(model.path(), missing, extra, findings);
  return pairs;
}

}  // namespace q4
