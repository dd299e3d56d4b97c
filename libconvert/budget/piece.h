// One piece of a tensor through an encoder, in every format that is asked for. Everything is computed by the encoder
// and the kernels; what stands here is which of them are asked, and what can be shared. Internal to measure.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/budget/measure.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/model/stats.h"
#include "libconvert/scheme/column_weights.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// Whole groups of 256 blocks of each size that there is: 2^18 elements, up to 2^20 where blocks are that large. Small
// enough that the slowest search is soon interrupted.
inline std::uint64_t PieceElems(const std::vector<QuantFormat>& formats) {
  std::uint64_t elems = std::uint64_t{1} << 18;
  for (const QuantFormat& format : formats) elems = std::max(elems, kScaleGroup * format.block_size);
  return elems;
}
// What a thread takes at most while it works on one: elements, codes, scales in several forms, and results that wait.
inline constexpr std::uint64_t kPieceMemory = std::uint64_t{8} << 20;

// The elements of a piece, in a buffer of the caller: where they begin in the tensor, and what their errors count.
struct PieceElements {
  const std::uint8_t* x;
  std::uint64_t first, elems;
  const ColumnWeights* weights;          // nullptr: 1
  const ColumnWeights* judge = nullptr;  // the same for what is recorded, which an encoder need not know
};

// What the first look finds: of each search the sums of its scales by group (Sum256::AddGroup()).
struct PieceScales {
  std::uint64_t bad = kAllFinite;  // index in the piece
  std::vector<std::vector<double>> group_sums;
};

// What one format loses of a piece.
struct FormatError {
  double error = 0;
  std::uint64_t overflow = 0;      // elements that decode to infinity
  std::vector<NestedLoss> losses;  // of nested scales that were searched
  // Of a measure that records.
  TiledStats stats;
  double weighted = 0, seconds = 0;
};

// What the other look finds.
struct PieceErrors {
  std::uint64_t bad = kAllFinite;
  double squares = 0, weighted_squares = 0;
  std::vector<FormatError> formats;
  std::optional<double> kept;  // nullopt where a finite element became infinite
};

// What one format loses of a tensor: its pieces, in order.
class FormatSum {
 public:
  // `first`: where the piece begins in the tensor, in elements. Pieces come in order.
  void Add(std::uint64_t first, std::uint32_t block_size, const FormatError& piece);
  // nullopt where the format cannot hold the tensor: it is never chosen.
  std::optional<double> error() const;
  // Whether a conversion leaves it to absmax.
  bool gives_way() const { return !losses_.empty() && GivesWay(losses_); }
  MeasuredRecord record() const;

 private:
  double error_ = 0;
  std::uint64_t overflow_ = 0;
  std::vector<NestedLoss> losses_;
  TensorStatsAccumulator stats_;
  double weighted_ = 0, seconds_ = 0;
};

// What is asked of the pieces of one tensor. Immutable, thread-safe.
class PieceMeasure {
 public:
  PieceMeasure(Q4Encoder encoder, const std::vector<QuantFormat>& formats, FloatType type, int effort,
               std::optional<DType> kept_as, bool record);

  // Whether nested scales depend on all scales of the tensor, so that Scales() must have seen all pieces before
  // Errors().
  bool looks_twice() const;
  // Of search `s`, a code book with a block size: the order of PieceScales::group_sums and of `offsets` below.
  std::uint32_t block_size(std::size_t s) const { return searches_[s].format.block_size; }
  bool records() const { return record_; }

  PieceScales Scales(const KernelTable& kernels, const PieceElements& piece) const;
  // `offsets`: of nested scales, by search; unused unless looks_twice().
  PieceErrors Errors(const KernelTable& kernels, const PieceElements& piece, const std::vector<float>& offsets) const;

 private:
  // Formats that share their search: a code book and a block size, with plain scales, nested ones or both.
  struct Search {
    QuantFormat format;                        // `nested` does not count
    std::optional<std::size_t> plain, nested;  // places among the formats
  };
  SlabShape ShapeOf(const Search& search, const PieceElements& piece) const;
  std::uint64_t Searched(const KernelTable& kernels, const Search& search, const PieceElements& piece,
                         PieceErrors* out) const;
  std::uint64_t Encoded(const KernelTable& kernels, const Search& search, const PieceElements& piece, float offset,
                        PieceErrors* out) const;
  std::optional<double> Kept(const KernelTable& kernels, const PieceElements& piece) const;
  // What a container says of the piece: its codes under `scales` as they decode. `codes`: as they were chosen, or
  // nullptr where they are chosen now.
  void Record(const KernelTable& kernels, const SlabShape& shape, const PieceElements& piece, const std::uint8_t* codes,
              const float* scales, FormatError* out) const;

  const Encoder* encoder_;
  FloatType type_;
  int effort_;
  std::optional<DType> kept_as_;
  bool record_;
  std::size_t formats_;
  std::vector<Search> searches_;
};

}  // namespace q4
