// Tensors of one model that are equal in the source are found by a map from shape, dtype and digest to the first of
// them in the model's order. Each later one is compared with that first one, so a set of equal tensors gives one
// finding for each that deviates, and the order of findings is that of the tensors.
#include "libconvert/verify/tied.h"

#include <map>
#include <tuple>

#include "libconvert/judge/verify_issues.h"

namespace q4 {
namespace {

// All that decides what a tensor becomes, and so what two equal ones must have in common to decode alike.
auto TreatmentOf(const Q4Tensor& tensor) {
  return std::tuple(tensor.dtype, tensor.scheme, tensor.encoder, tensor.block_size, tensor.nested);
}

}  // namespace

void CheckTied(const std::vector<TensorPair>& pairs, const std::vector<std::optional<TensorDigests>>& digests,
               bool embeddings_are_tied, FindingList* findings) {
  // Equal digests with another shape or dtype are the same bytes read in another way, which nobody ties.
  using Likeness = std::tuple<Shape, DType, std::uint64_t>;
  std::map<Likeness, std::size_t> first_alike;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Q4Tensor& tensor = *pairs[i].stored;
    // A failed tensor has a finding that explains the difference.
    if (!digests[i] || tensor.shape.size() < 2 || tensor.elems == 0 || findings->Failed(tensor.name)) continue;
    const Likeness likeness{pairs[i].source->shape, pairs[i].source->dtype, digests[i]->source};
    const auto [at, is_first] = first_alike.emplace(likeness, i);
    if (is_first || digests[at->second]->stored == digests[i]->stored) continue;
    const Q4Tensor& first = *pairs[at->second].stored;
    if (TreatmentOf(first) != TreatmentOf(tensor) && !embeddings_are_tied) continue;
    findings->Add(tensor.name, kTiedDiffer, pairs[i].reader->path(), TensorPlace(tensor.name),
                  "in the source it equals '" + first.name + "'");
  }
}

}  // namespace q4
