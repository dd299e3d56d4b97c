// A run of a tensor's elements as the source has them and as the container does.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/base/chunk_cache.h"
#include "libconvert/model/decoder.h"
#include "libconvert/model/stored_tensor.h"
#include "libconvert/source/source_reader.h"

namespace q4 {

// A tensor that both sides have, with equal shape and a dtype that the conversion may have given it.
struct TensorPair {
  const Q4Reader* reader = nullptr;
  const Q4Tensor* stored = nullptr;
  const SourceTensor* source = nullptr;
  std::size_t report = 0;  // index into VerifyReport::tensors
};

// What pieces of any pair are read and worked on with. Thread-safe, as source and cache are.
struct PieceTools {
  const KernelTable& kernels;
  const Checkpoint& source;
  ChunkCache* cache;
};

// Reads pieces of one pair, from both sides. Thread-safe.
class PieceReader {
 public:
  PieceReader(const TensorPair& pair, const PieceTools& tools)
      : pair_(pair),
        source_(tools.source),
        parts_(*pair.reader, *pair.stored, tools.cache),
        decoder_(tools.kernels, *pair.stored, parts_) {}
  PieceReader(const PieceReader&) = delete;
  PieceReader& operator=(const PieceReader&) = delete;

  // Elements [first, first + count) of the source.
  absl::Status ReadSource(std::uint64_t first, std::uint64_t count, std::vector<std::uint8_t>* bytes) const;

  // Scales of blocks [first, first + count): finite ones, or an error (exit code 6).
  absl::StatusOr<BlockScales> ReadScales(std::uint64_t first, std::uint64_t count) const;

  // Of a quantized pair.
  const TensorDecoder& decoder() const { return decoder_; }

 private:
  const TensorPair& pair_;
  const SourceReader source_;
  const ContainerPartReader parts_;
  const TensorDecoder decoder_;
};

}  // namespace q4
