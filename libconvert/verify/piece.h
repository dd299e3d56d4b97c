// A range of a tensor's elements as the source has them and as the container does. This is the one place where the
// steps of a comparison read from, so that slab.cc and worst.cc agree on what they compare: elements of the source in
// its own dtype, codes, and scales that are known to be finite.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/calibration/calibration.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/base/chunk_cache.h"
#include "libconvert/base/progress.h"
#include "libconvert/encode/feedback_factors.h"
#include "libconvert/model/decoder.h"
#include "libconvert/model/stored_tensor.h"
#include "libconvert/scheme/column_weights.h"
#include "libconvert/source/source_reader.h"

namespace q4 {

// A tensor that both sides have, with equal shape and a dtype that the conversion may have given it. PairTensors()
// makes these; they point into model and checkpoint, which outlive them.
struct TensorPair {
  // The container file, or the shard, that holds `stored`.
  const Q4Reader* reader = nullptr;
  const Q4Tensor* stored = nullptr;
  const SourceTensor* source = nullptr;
  // Index into VerifyReport::tensors.
  std::size_t report = 0;
  // What the calibration says of it, where one is given.
  WeightInput calibrated = {};
};

struct PieceTools;

// Whether scales and codes can be computed again from what is there (EncoderProof::recompute).
bool CanRecompute(const TensorPair& pair);

// The weights of the pairs that have an input in the calibration. Thread-safe.
class PairWeights {
 public:
  // `calibration` may be nullptr if no pair has one.
  explicit PairWeights(const Calibration* calibration) : calibration_(calibration) {}

  // nullptr for a pair without an input, or whose encoder looks at none. The last one is kept, as slabs of a tensor
  // come one after the other. Errors: those of reading.
  absl::StatusOr<std::shared_ptr<const ColumnWeights>> Of(const TensorPair& pair);

 private:
  const Calibration* const calibration_;
  std::mutex mutex_;
  const TensorPair* last_ = nullptr;
  std::shared_ptr<const ColumnWeights> weights_;
};

// The codes of tensors whose encoder chooses them as a whole (CodesNeedWholeTensor()). Thread-safe.
class WholeCodes {
 public:
  // `calibration` may be nullptr if no pair has an input in it. `threads`: to choose them with. `room`: for factors
  // that several pairs have in common.
  WholeCodes(const Calibration* calibration, const std::vector<TensorPair>& pairs, unsigned threads, std::uint64_t room,
             CancelFlag* cancel);

  // Those of a pair that CanRecompute() and whose codes are chosen so, under the scales that are stored; empty where an
  // element is NaN or infinite. The last tensor's are kept, as its slabs come one after the other. Errors: those of
  // reading, kHessianNotPositive, kVerifyInterrupted.
  absl::StatusOr<std::shared_ptr<const std::vector<std::uint8_t>>> Of(const TensorPair& pair, const PieceTools& tools);

 private:
  const Calibration* const calibration_;
  const unsigned threads_;
  CancelFlag* const cancel_;
  std::mutex mutex_;
  const TensorPair* last_ = nullptr;
  std::shared_ptr<const std::vector<std::uint8_t>> codes_;
  FeedbackFactors factors_;
};

// What WholeCodes::Of() takes at its worst moment beside the room for factors; 0 of a pair that it is not asked for.
std::uint64_t WholeCodesMemory(const TensorPair& pair, unsigned threads);

// The room with which no factor of these pairs is made twice.
std::uint64_t WholeCodesRoom(const std::vector<TensorPair>& pairs);

// What pieces of any pair are read and worked on with. One for a whole comparison. Thread-safe, as source and cache
// are.
struct PieceTools {
  const KernelTable& kernels;
  const Checkpoint& source;
  // The effort that the container records, of encoders that search.
  int effort;
  // Whether SlabResult::absmax_groups is wanted of every tensor.
  bool compare_absmax;
  // Of chunks of scales, each of which serves several slabs; codes and data do not go through it.
  ChunkCache* cache;
  PairWeights* weights;
  WholeCodes* whole_codes;
};

// Reads pieces of one pair, from both sides. Thread-safe. `pair` and `tools` must outlive it. Cheap to make: nothing is
// read before it is asked for.
class PieceReader {
 public:
  PieceReader(const TensorPair& pair, const PieceTools& tools)
      : pair_(pair),
        kernels_(tools.kernels),
        source_(tools.source),
        parts_(*pair.reader, *pair.stored, tools.cache),
        decoder_(tools.kernels, *pair.stored, parts_) {}
  PieceReader(const PieceReader&) = delete;
  PieceReader& operator=(const PieceReader&) = delete;

  // Elements [first, first + count) of the source into `bytes`, which is resized: little-endian, in the source's dtype;
  // of a quantized pair in the container's, in which they were quantized. Errors: I/O (exit code 2).
  absl::Status ReadSource(std::uint64_t first, std::uint64_t count, std::vector<std::uint8_t>* bytes) const;

  // Scales of blocks [first, first + count) of a quantized pair. All of them are finite. Errors: kQ4ScaleValue if one
  // is not, and those of a damaged chunk. CheckChunks() has findings for both.
  absl::StatusOr<BlockScales> ReadScales(std::uint64_t first, std::uint64_t count) const;

  // Codes and decoded values. Of a quantized pair alone.
  const TensorDecoder& decoder() const { return decoder_; }

 private:
  const TensorPair& pair_;
  const KernelTable& kernels_;
  const SourceReader source_;
  const ContainerPartReader parts_;
  const TensorDecoder decoder_;
};

}  // namespace q4
