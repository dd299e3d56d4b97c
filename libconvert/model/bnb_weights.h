// The 4-bit weights of a checkpoint in the bitsandbytes layout (formats/bnb/layout.h), each with the tensors that
// belong to it. Finding and checking are two steps: an inspector lists what it finds, a decoder needs weights that are
// whole, and lint (libconvert/lint) says in detail what is wrong with others.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/bnb/weights.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// All weights that have codes and a well-formed description, in the order in which the checkpoint has the descriptions.
// A weight without one of the two is left out and no error. Reads the descriptions, about 200 bytes each, and nothing
// else of the payload. Fails only if one cannot be read.
absl::StatusOr<std::vector<BnbWeight>> FindBnbWeights(const Checkpoint& checkpoint);

// Whether FindBnbWeights() finds any, at the same cost and with the same errors.
absl::StatusOr<bool> HoldsBnbWeights(const Checkpoint& checkpoint);

// Whether the weight can be decoded: every tensor that it needs is there and has the size and, for the two tables, the
// content that the description asks for. Reads the tables only. Errors: kBnbWeight, which names file, weight and what
// is wrong; I/O.
absl::Status CheckBnbWeight(const Checkpoint& checkpoint, const BnbWeight& weight);

}  // namespace q4
