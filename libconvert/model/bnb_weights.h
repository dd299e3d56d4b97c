// The 4-bit weights of a checkpoint in the bitsandbytes layout (formats/exchange/bnb.h), each with the tensors that
// belong to it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/bnb_quant_state.h"

namespace q4 {

struct BnbWeight {
  std::string name;
  BnbQuantState state;
  // They point into the checkpoint. Of these, the last four are nullptr where the checkpoint lacks them.
  const SourceTensor* codes = nullptr;
  const SourceTensor* quant_state = nullptr;
  const SourceTensor* absmax = nullptr;
  const SourceTensor* quant_map = nullptr;
  const SourceTensor* nested_absmax = nullptr;
  const SourceTensor* nested_map = nullptr;

  // All that the checkpoint has.
  std::vector<const SourceTensor*> tensors() const;
};

// All weights that have codes and a well-formed description, in the order of the checkpoint's tensors. Fails only if a
// description cannot be read.
absl::StatusOr<std::vector<BnbWeight>> FindBnbWeights(const Checkpoint& checkpoint);

// Whether there are any.
absl::StatusOr<bool> HoldsBnbWeights(const Checkpoint& checkpoint);

// Whether the weight can be decoded: every tensor that it needs is there and has the type, size and, for the tables,
// the content that the description asks for. Error: kBnbWeight, which names the weight.
absl::Status CheckBnbWeight(const Checkpoint& checkpoint, const BnbWeight& weight);

// The weight as a container would describe it, without parts and statistics.
Q4Tensor Q4TensorOf(const BnbWeight& weight);

}  // namespace q4
