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

// Tensors that are equal in the source must be equal in the container. If two of them had the same treatment and decode
// to different values, one was tampered with. If their treatments differ, that is a fault only where the configuration
// says that embeddings are tied, because a loader then uses one in place of the other; elsewhere it may be what the
// user asked for. `digests` has one entry per pair. Left out are tensors with earlier findings, and vectors and
// scalars, which are never tied.
void CheckTied(const std::vector<TensorPair>& pairs, const std::vector<std::optional<TensorDigests>>& digests,
               bool embeddings_are_tied, FindingList* findings);

}  // namespace q4
