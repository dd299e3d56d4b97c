// Tied weights.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "libconvert/judge/verify_findings.h"
#include "libconvert/verify/piece.h"

namespace q4 {

// Of a tensor that was compared whole.
struct TensorDigests {
  std::uint64_t source = 0;  // of its bytes
  std::uint64_t stored = 0;  // of what it decodes to
};

// Tensors that are equal in the source must be equal here. Two that were treated alike decode alike, or one was
// tampered with. Two that were treated differently are a fault where the configuration says that embeddings are tied,
// since a reader then takes one for the other; elsewhere whoever converted the model may have wanted it so. `digests`
// holds one entry per pair. Tensors that were found wrong before are left out, as are vectors and scalars, which are
// never tied.
void CheckTied(const std::vector<TensorPair>& pairs, const std::vector<std::optional<TensorDigests>>& digests,
               bool embeddings_are_tied, FindingList* findings);

}  // namespace q4
