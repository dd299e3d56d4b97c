// Which tensor of a container is to be compared with which of the source.
#pragma once

#include <optional>
#include <vector>

#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/verify/piece.h"

namespace q4 {

// What else than its source's own dtype a tensor may have.
struct PairRules {
  std::optional<DType> keep_dtype;  // the --keep-dtype of the conversion
  // The source is not what the container was made from, but what that was quantized from: in any float dtype.
  bool is_original = false;
};

// Pairs the tensors by name. Adds a finding for each without a partner (kTensorMissing, kTensorExtra, or kTensorRenamed
// if just one of each fits the other) and for those with another shape (kShapeDiffers) or dtype (kDTypeDiffers); these
// are not paired. Tensors of shards that were not opened are not missed; tensors whose name `only` does not match are
// left out on both sides (nullptr: none are). The pairs come in the order of the model's tensors and point into model
// and source. Reads no payload.
std::vector<TensorPair> PairTensors(const Q4Model& model, const Checkpoint& source, const NamePattern* only,
                                    const PairRules& rules, FindingList* findings);

}  // namespace q4
