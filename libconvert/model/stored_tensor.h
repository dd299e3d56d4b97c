// The parts of a tensor as bytes, wherever it lies: in a container, or in a checkpoint, quantized by bitsandbytes or
// not at all. Internal to libconvert/inspect*.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"

namespace q4 {

class TensorParts {
 public:
  virtual ~TensorParts() = default;
  // Bytes [begin, begin + bytes) of a part. REQUIRES: the tensor has the part, and the range lies in it.
  virtual absl::StatusOr<std::vector<std::uint8_t>> Read(Q4Part part, std::uint64_t begin,
                                                         std::uint64_t bytes) const = 0;
};

// Where a tensor lies does not show any more: what it is, and its bytes. Of `tensor`, `parts` and statistics are those
// of a container; a tensor of a checkpoint has none.
struct ReadableTensor {
  Q4Tensor tensor;
  std::unique_ptr<TensorParts> parts;
};

// `reader` and `tensor` must outlive the result.
std::unique_ptr<TensorParts> PartsInContainer(const Q4Reader& reader, const Q4Tensor& tensor);

// The tensors of a checkpoint, bytewise sorted by name; a bitsandbytes weight is one quantized tensor, and those that
// belong to it are not listed. Error: kBnbWeight if one of them cannot be decoded. `checkpoint` must outlive the
// result.
absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const Checkpoint& checkpoint);

// Decoded scales of blocks [first, first + count) of a quantized tensor.
absl::StatusOr<std::vector<float>> ReadDecodedScales(const Q4Tensor& tensor, const TensorParts& parts,
                                                     std::uint64_t first, std::uint64_t count);

}  // namespace q4
