// Tied weights: tensors that a model treats as one, the input embedding and the output layer above all. A checkpoint
// that stores them twice must not come out of a conversion with two different ones.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "libconvert/judge/verify_findings.h"
#include "libconvert/verify/piece.h"

namespace q4 {

// Of a tensor that was compared whole. XXH3 over the digests of its slabs in order; only equality counts.
struct TensorDigests {
  // Of its bytes in the source.
  std::uint64_t source = 0;
  // Of what it decodes to, whatever the treatment: data, or codes and decoded scales.
  std::uint64_t stored = 0;
};

// Adds kTiedDiffer to `findings` for tensors that are equal in the source and not in the container. If two of them had
// the same treatment and decode to different values, one was tampered with. If their treatments differ, that is a fault
// only where the configuration says that embeddings are tied (`embeddings_are_tied`), because a loader then uses one in
// place of the other; elsewhere it may be what the user asked for. `digests` has one entry per pair, nullopt for pairs
// that were not compared whole. Left out are tensors with earlier findings, and vectors and scalars, which are never
// tied: those of all zeros or ones are equal by nature. Reads nothing.
void CheckTied(const std::vector<TensorPair>& pairs, const std::vector<std::optional<TensorDigests>>& digests,
               bool embeddings_are_tied, FindingList* findings);

}  // namespace q4
