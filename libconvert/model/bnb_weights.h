// The 4-bit weights of a checkpoint in the bitsandbytes layout (formats/exchange/bnb.h), each with the tensors that
// belong to it. Finding and checking are two steps: an inspector lists what it finds, a decoder needs weights that are
// whole, and lint (libconvert/lint) says in detail what is wrong with others.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/bnb_quant_state.h"

namespace q4 {

// One weight. Its tensors are pointers into the checkpoint, which must outlive it.
struct BnbWeight {
  // Of the logical weight, which is also the name of the tensor with its codes.
  std::string name;
  BnbQuantState state;
  // These two are always set.
  const SourceTensor* codes = nullptr;
  const SourceTensor* quant_state = nullptr;
  // These four are nullptr where the checkpoint lacks them; the last two belong to nested scales alone. `absmax` holds
  // fp32 scales or, of a nested weight, scale codes; `nested_absmax` the group scales.
  const SourceTensor* absmax = nullptr;
  const SourceTensor* quant_map = nullptr;
  const SourceTensor* nested_absmax = nullptr;
  const SourceTensor* nested_map = nullptr;

  // All of them that the checkpoint has, the codes first.
  std::vector<const SourceTensor*> tensors() const;
};

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

// The weight as a container would describe it, without parts and statistics, so that one decoder serves both. The
// offset is rounded to fp32. The encoder is given as absmax, which is the library's own.
Q4Tensor Q4TensorOf(const BnbWeight& weight);

}  // namespace q4
