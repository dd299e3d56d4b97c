// Decodes quantized tensors that are read back, wherever they are stored (numerics Q5.5, Q6): how a stored scale
// becomes the number that a reader gets, and how codes under such scales become values. Where the bytes come from is
// the PartReader's matter (stored_tensor.h), so that containers and bitsandbytes checkpoints decode alike. Tensors that
// are kept need no decoder: their part kData holds the values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "kernels/kernels.h"
#include "libconvert/model/stored_tensor.h"

namespace q4 {

// The scales of consecutive blocks, in the two forms that callers ask for: decoded, to multiply code values with, and
// as stored, to compare with other stored ones. The spans point into what the object owns or shares with a cache, and
// live as long as it. It moves and is not copied.
class BlockScales {
 public:
  BlockScales() = default;
  BlockScales(BlockScales&&) = default;
  BlockScales& operator=(BlockScales&&) = default;

  // One for each block that was asked for.
  std::span<const float> decoded;
  // Of nested scales as they are stored: one scale code for each block that was asked for. Empty for fp32 scales, which
  // are stored as `decoded` has them.
  std::span<const std::uint8_t> scale_codes;
  // Of nested scales, of all groups that these blocks lie in, from the group of the first block on. Empty for fp32
  // scales.
  std::span<const float> group_scales;

 private:
  friend class TensorDecoder;
  // The parts as they were read; the spans above point into them.
  PartBytes fp32_, codes_, groups_;
  // Decoded nested scales, from the first block of the first group on.
  std::vector<float> memory_;
};

// Decodes one quantized tensor, in any order and piece by piece. Holds nothing but references: `kernels`, `tensor` and
// `parts` must outlive it. Thread-safe if `parts` is. The kernels need the canonical float environment, which the
// caller sets for its thread (ScopedFloatEnvironment).
class TensorDecoder {
 public:
  // REQUIRES: `tensor` is quantized, and `parts` has its parts.
  TensorDecoder(const KernelTable& kernels, const Q4Tensor& tensor, const PartReader& parts)
      : kernels_(kernels), tensor_(tensor), parts_(parts) {}

  // Scales of blocks [first, first + count). Costs memory for the decoded scales, 4 bytes each, if they are nested;
  // fp32 scales are not copied where `parts` does not copy. Errors: those of `parts`; of nested scales the scale codes
  // are read first, then the group scales. A scale that is infinite or NaN is no error here: whoever cannot go on with
  // one must look.
  absl::StatusOr<BlockScales> ReadScales(std::uint64_t first, std::uint64_t count) const;

  // Codes of elements [first, first + count), two in a byte, the earlier one in the high half (Q3.1). Errors: those of
  // `parts`. REQUIRES: `first` is even, because half a byte cannot be read.
  absl::StatusOr<PartBytes> ReadCodes(std::uint64_t first, std::uint64_t count) const;

  // Writes out[count] of `type` (Q6.1), from packed codes and the decoded scales of their blocks. Both begin with the
  // first element of a block; the last block may be cut short. `out` has room for `count` items of `type`.
  void Decode(const std::uint8_t* codes, const float* decoded_scales, std::uint64_t count, FloatType type,
              void* out) const;

 private:
  const KernelTable& kernels_;
  const Q4Tensor& tensor_;
  const PartReader& parts_;
};

}  // namespace q4
