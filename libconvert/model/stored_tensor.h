// The bytes of a tensor, wherever it lies: in a container, or in a checkpoint, quantized by bitsandbytes or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/chunk_cache.h"

namespace q4 {

// Bytes of a part, and a share in the memory where they lie, which may be a whole chunk. Cheap to copy.
class PartBytes {
 public:
  PartBytes() = default;
  explicit PartBytes(std::vector<std::uint8_t> bytes)
      : memory_(std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes))), bytes_(*memory_) {}
  // Bytes [begin, begin + count) of a chunk.
  PartBytes(ChunkCache::Bytes chunk, std::uint64_t begin, std::uint64_t count)
      : memory_(std::move(chunk)), bytes_(std::span(*memory_).subspan(begin, count)) {}

  std::span<const std::uint8_t> bytes() const { return bytes_; }
  const std::uint8_t* data() const { return bytes_.data(); }
  // REQUIRES: they are whole items of a part of fp32.
  std::span<const float> floats() const {
    return {reinterpret_cast<const float*>(bytes_.data()), bytes_.size() / sizeof(float)};
  }

 private:
  ChunkCache::Bytes memory_;
  std::span<const std::uint8_t> bytes_;
};

// Reads the parts of one tensor.
class PartReader {
 public:
  virtual ~PartReader() = default;
  // Bytes [begin, begin + bytes) of a part. REQUIRES: the tensor has the part, and the range lies in it; of kData,
  // whole elements.
  virtual absl::StatusOr<PartBytes> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const = 0;
};

// Of a tensor in a container, whose chunks come through `cache` if there is one. A range inside one chunk is not
// copied. Thread-safe. All must outlive the reader.
class ContainerPartReader final : public PartReader {
 public:
  ContainerPartReader(const Q4Reader& reader, const Q4Tensor& tensor, ChunkCache* cache = nullptr)
      : reader_(reader), tensor_(tensor), cache_(cache) {}
  absl::StatusOr<PartBytes> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const override;

 private:
  absl::StatusOr<ChunkCache::Bytes> Chunk(std::uint64_t chunk) const;

  const Q4Reader& reader_;
  const Q4Tensor& tensor_;
  ChunkCache* cache_;
};

// A tensor of a container or of a checkpoint, in one form. Chunks and statistics of `tensor` are those of a container;
// a tensor of a checkpoint has none.
struct ReadableTensor {
  Q4Tensor tensor;
  std::unique_ptr<PartReader> parts;
};

// A tensor of a container, which must outlive the result.
ReadableTensor ReadableFrom(const Q4Model& model, const Q4Model::Location& at);

// The tensors of a checkpoint, bytewise sorted by name; a bitsandbytes weight is one quantized tensor, and those that
// belong to it are not listed. Error: kBnbWeight if one of them cannot be decoded. `checkpoint` must outlive the
// result.
absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const Checkpoint& checkpoint);

}  // namespace q4
