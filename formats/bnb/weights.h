// The tensors of one 4-bit weight of a bitsandbytes checkpoint (layout.h), as its description names them. Whoever looks
// for weights decides what to make of one that is not whole: an inspector lists it, a converter refuses it.
#pragma once

#include <string>
#include <vector>

#include "formats/bnb/quant_state.h"
#include "formats/q4/container.h"
#include "formats/tensor/source_tensor.h"

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

// What the weight lacks to be decoded, and which of its tensors has another type or size than the description asks for:
// "no absmax", "codes: got 100 bytes, expected 128". "" if nothing. Reads no payload. Packed codes may pose as any
// dtype.
std::string BnbPartProblem(const BnbWeight& weight);

// The weight as a container would describe it, without parts and statistics, so that one decoder serves both. The
// offset is rounded to fp32. The encoder is given as absmax, which is the library's own.
Q4Tensor Q4TensorOf(const BnbWeight& weight);

}  // namespace q4
