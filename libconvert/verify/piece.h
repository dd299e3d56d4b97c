// A run of a tensor's elements as the source has them and as the container does. Internal to libconvert/verify*.cc.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/chunk_cache.h"

namespace q4 {

// A tensor that both sides have, with equal shape and a dtype that the conversion may have given it.
struct TensorPair {
  const Q4Reader* reader = nullptr;
  const Q4Tensor* stored = nullptr;
  const TensorInfo* source = nullptr;
  std::size_t report = 0;  // index into VerifyReport::tensors
};

// The scales of consecutive blocks as a reader gets them, and what double-quantized ones are decoded from.
struct StoredScales {
  std::vector<float> decoded;
  std::vector<std::uint8_t> scale_codes;  // nested only
  std::vector<float> scales2;             // nested only
};

// Thread-safe, as reader, source and cache are.
class PieceReader {
 public:
  PieceReader(const TensorPair& pair, const Checkpoint& source, ChunkCache* cache)
      : pair_(pair), source_(source), cache_(*cache) {}

  // Elements [first, first + count) of the source.
  absl::Status ReadSource(std::uint64_t first, std::uint64_t count, std::vector<std::uint8_t>* bytes) const;

  // The chunk in which byte `begin` of a part lies.
  absl::StatusOr<ChunkCache::Bytes> ChunkHolding(Q4Part part, std::uint64_t begin) const;

  // Scales of blocks [first, first + count), which is finite ones or an error (exit code 6). REQUIRES: the blocks are
  // whole groups of 256, or end with the tensor, and lie in one chunk of codes.
  absl::StatusOr<StoredScales> ReadScales(std::uint64_t first, std::uint64_t count) const;

 private:
  absl::StatusOr<std::vector<float>> ReadFloats(Q4Part part, std::uint64_t first, std::uint64_t count) const;

  const TensorPair& pair_;
  const Checkpoint& source_;
  ChunkCache& cache_;
};

}  // namespace q4
