// The bytes of a tensor, wherever it lies: in a container, or in a checkpoint, quantized by bitsandbytes or not at all.
// This is what inspection, verification and comparison read through, so that they need not know where a tensor comes
// from: a description (Q4Tensor) and a reader of its parts. Numbers are made of the bytes in decoder.h.
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

// Bytes of a part, and a share in the memory where they lie, which may be a whole chunk of up to 8 MiB. They stay valid
// as long as any copy of the object does, whether or not a cache drops the chunk. Cheap to copy: copies share the
// bytes.
class PartBytes {
 public:
  // No bytes.
  PartBytes() = default;
  // Takes over bytes that were put together for one range.
  explicit PartBytes(std::vector<std::uint8_t> bytes)
      : memory_(std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes))), bytes_(*memory_) {}
  // Bytes [begin, begin + count) of a chunk, which stays in memory as a whole. REQUIRES: the range lies inside it.
  PartBytes(ChunkCache::Bytes chunk, std::uint64_t begin, std::uint64_t count)
      : memory_(std::move(chunk)), bytes_(std::span(*memory_).subspan(begin, count)) {}

  std::span<const std::uint8_t> bytes() const { return bytes_; }
  const std::uint8_t* data() const { return bytes_.data(); }
  // As fp32 items. REQUIRES: they are whole items of a part of fp32; chunks begin with a whole item and lie in memory
  // aligned for any type.
  std::span<const float> floats() const {
    return {reinterpret_cast<const float*>(bytes_.data()), bytes_.size() / sizeof(float)};
  }

 private:
  // Keeps `bytes_` valid.
  ChunkCache::Bytes memory_;
  std::span<const std::uint8_t> bytes_;
};

// Reads the parts of one tensor, any range of them in any order.
class PartReader {
 public:
  virtual ~PartReader() = default;
  // Bytes [begin, begin + bytes) of a part. REQUIRES: the tensor has the part, and the range lies in it; of kData,
  // whole elements. Whether calls may run side by side is said by each implementation.
  virtual absl::StatusOr<PartBytes> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const = 0;
};

// Reads a tensor of a container. Its chunks come through `cache` if there is one, which spares decompressing a chunk
// for each of several ranges. A range inside one chunk is not copied; one that crosses a border is. Thread-safe.
// `reader`, `tensor` and `cache` must outlive it. Errors: those of Q4Reader::ReadChunk().
class ContainerPartReader final : public PartReader {
 public:
  ContainerPartReader(const Q4Reader& reader, const Q4Tensor& tensor, ChunkCache* cache = nullptr)
      : reader_(reader), tensor_(tensor), cache_(cache) {}
  absl::StatusOr<PartBytes> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const override;

 private:
  // By its number in the file.
  absl::StatusOr<ChunkCache::Bytes> Chunk(std::uint64_t chunk) const;

  const Q4Reader& reader_;
  const Q4Tensor& tensor_;
  // nullptr: every call reads its chunks itself.
  ChunkCache* cache_;
};

// A tensor of a container or of a checkpoint, in one form. Only that of a container has chunks and statistics in
// `tensor`.
struct ReadableTensor {
  Q4Tensor tensor;
  std::unique_ptr<PartReader> parts;
};

// The tensor at `at` of a container, read without a cache. `model` must outlive the result.
ReadableTensor ReadableFrom(const Q4Model& model, const Q4Model::Location& at);

// All tensors of a checkpoint, bytewise sorted by name. A bitsandbytes weight is one quantized tensor, and the tensors
// that belong to it are not listed. Reads the descriptions and tables of such weights. Error: kBnbWeight if one of them
// cannot be decoded, or two describe the same tensor; I/O. `checkpoint` must outlive the result.
absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const Checkpoint& checkpoint);

}  // namespace q4
