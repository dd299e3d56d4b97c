// Decodes quantized tensors that are read back, wherever they are stored (numerics Q5.5, Q6): how a stored scale
// becomes the number that a reader gets, and codes under such scales become values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "kernels/kernels.h"
#include "libconvert/model/stored_tensor.h"

namespace q4 {

// The scales of consecutive blocks. Spans point into what it owns; it moves and is not copied.
class BlockScales {
 public:
  BlockScales() = default;
  BlockScales(BlockScales&&) = default;
  BlockScales& operator=(BlockScales&&) = default;

  std::span<const float> decoded;
  // As they are stored; of fp32 scales `decoded` is that, and these are empty.
  std::span<const std::uint8_t> scale_codes;
  std::span<const float> group_scales;  // of all groups that the blocks lie in

 private:
  friend class TensorDecoder;
  PartBytes fp32_, codes_, groups_;
  std::vector<float> memory_;  // of decoded nested scales
};

// One quantized tensor. Thread-safe if `parts` is. All three must outlive it.
class TensorDecoder {
 public:
  TensorDecoder(const KernelTable& kernels, const Q4Tensor& tensor, const PartReader& parts)
      : kernels_(kernels), tensor_(tensor), parts_(parts) {}

  // Scales of blocks [first, first + count). Fails if they cannot be read: of nested scales the codes are read first,
  // then the group scales. Whatever is infinite or NaN stays so; who must not go on with it looks.
  absl::StatusOr<BlockScales> ReadScales(std::uint64_t first, std::uint64_t count) const;

  // Codes of elements [first, first + count), two in a byte. REQUIRES: `first` is even.
  absl::StatusOr<PartBytes> ReadCodes(std::uint64_t first, std::uint64_t count) const;

  // out[count] of `type`, from codes and the decoded scales of their blocks, which begin with a whole block.
  void Decode(const std::uint8_t* codes, const float* decoded_scales, std::uint64_t count, FloatType type,
              void* out) const;

 private:
  const KernelTable& kernels_;
  const Q4Tensor& tensor_;
  const PartReader& parts_;
};

}  // namespace q4
