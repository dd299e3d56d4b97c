// Q15. The weight's own elements are read into the output, and what the adapter adds is worked into them there: tile by
// tile of columns, whose part of the right factor is held, and in each row by row, so that the memory is the same for
// any shape. An element's sum goes over the rank alone: cutting into tiles, rows and slabs changes none.
//
// DoRA needs norms first. Over a row they are found for the rows at hand, from the file, since a slab may begin within
// a row; over a column they need the whole weight, which is read for it once (MergedFactors).
#include "libconvert/source/merged.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <mutex>
#include <vector>

#include "fmt/format.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "kernels/kernels.h"
#include "kernels/numeric.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/source/source_reader.h"

namespace q4 {
namespace {

// Numbers of each factor that are held at once, which stay in the second-level cache. Very large ranks take more, so
// that they are not read in crumbs.
constexpr std::uint64_t kTileFloats = 65536, kLargeTileFloats = std::uint64_t{1} << 19;
constexpr std::uint64_t kColumnStep = 16, kFewColumns = 128, kMostColumns = 4096, kMostRows = 2048;
constexpr std::size_t kNormLanes = 8;

void MakeCanonical(std::span<float> values) {
  for (float& value : values) value = CanonicalNan(value);
}

class Merging {
 public:
  Merging(const Checkpoint& checkpoint, const SourceTensor& tensor)
      : checkpoint_(checkpoint), reader_(checkpoint), tensor_(tensor), merged_(*tensor.merged) {
    const std::uint64_t rank = std::max<std::uint64_t>(merged_.rank, 1);
    const std::uint64_t fitting =
        std::max(kTileFloats / rank, std::clamp(kLargeTileFloats / rank, kColumnStep, kFewColumns));
    tile_columns_ = std::min(fitting / kColumnStep * kColumnStep, kMostColumns);
    group_rows_ = std::min(fitting, kMostRows);
    values_.resize(tile_columns_);
  }

  absl::Status Read(std::uint64_t first, std::span<std::uint8_t> out) {
    if (merged_.a == nullptr) return ReadConverted(first, out);
    Q4_RETURN_IF_ERROR(reader_.Read(*merged_.base, first, out));
    const std::uint64_t item = ItemSize(tensor_.dtype), count = out.size() / item;
    if (count == 0) return absl::OkStatus();
    if (merged_.magnitude != nullptr && merged_.transposed) Q4_RETURN_IF_ERROR(FindColumnFactors());
    const std::uint64_t end = first + count, columns = merged_.columns;
    for (std::uint64_t at = first; at < end;) {
      const std::uint64_t row = at / columns;
      const std::uint64_t rows = std::min(group_rows_, (end - 1) / columns + 1 - row);
      const std::uint64_t next = std::min(end, (row + rows) * columns);
      Q4_RETURN_IF_ERROR(MergeRows(row, rows, at, out.subspan((at - first) * item, (next - at) * item)));
      at = next;
    }
    return absl::OkStatus();
  }

 private:
  // What replaces a weight, in the weight's dtype.
  absl::Status ReadConverted(std::uint64_t first, std::span<std::uint8_t> out) {
    const std::uint64_t item = ItemSize(tensor_.dtype), count = out.size() / item;
    for (std::uint64_t at = 0; at < count; at += kMostColumns) {
      const std::uint64_t piece = std::min(kMostColumns, count - at);
      values_.resize(piece);
      Q4_RETURN_IF_ERROR(ReadFloats(*merged_.base, first + at, piece, values_.data()));
      MakeCanonical(values_);
      kernels_.convert(FloatType::kF32, values_.data(), piece, FloatTypeOf(tensor_.dtype), out.data() + at * item);
    }
    return absl::OkStatus();
  }

  // Elements [first, first + count) of any tensor, widened.
  absl::Status ReadFloats(const SourceTensor& from, std::uint64_t first, std::uint64_t count, float* to) {
    bytes_.resize(count * ItemSize(from.dtype));
    Q4_RETURN_IF_ERROR(reader_.Read(from, first, bytes_));
    kernels_.convert(FloatTypeOf(from.dtype), bytes_.data(), count, FloatType::kF32, to);
    return absl::OkStatus();
  }

  // The same of the adapter's, which must be numbers.
  absl::Status ReadFactor(const SourceTensor& from, std::uint64_t first, std::uint64_t count, float* to) {
    Q4_RETURN_IF_ERROR(ReadFloats(from, first, count, to));
    const float* const bad = std::find_if_not(to, to + count, IsFinite);
    if (bad == to + count) return absl::OkStatus();
    return Fail(kAdapterNotFinite, checkpoint_.FileOf(from).path(), from.name,
                fmt::format("element {}; train or download the adapter again", first + std::uint64_t(bad - to)));
  }

  // right_[k * stride_ + j] for `count` columns from `column` on.
  absl::Status LoadRight(std::uint64_t column, std::uint64_t count) {
    right_.resize(merged_.rank * tile_columns_);
    stride_ = tile_columns_;
    if (!merged_.transposed && count == merged_.columns) {
      stride_ = count;
      return ReadFactor(*merged_.a, 0, merged_.rank * count, right_.data());
    }
    if (!merged_.transposed) {
      for (std::uint64_t k = 0; k < merged_.rank; ++k) {
        const std::uint64_t at = k * merged_.columns + column;
        Q4_RETURN_IF_ERROR(ReadFactor(*merged_.a, at, count, right_.data() + k * stride_));
      }
      return absl::OkStatus();
    }
    turned_.resize(count * merged_.rank);
    Q4_RETURN_IF_ERROR(ReadFactor(*merged_.b, column * merged_.rank, turned_.size(), turned_.data()));
    for (std::uint64_t j = 0; j < count; ++j) {
      for (std::uint64_t k = 0; k < merged_.rank; ++k) right_[k * stride_ + j] = turned_[j * merged_.rank + k];
    }
    return absl::OkStatus();
  }

  // left_[i * rank + k] for `count` rows from `row` on.
  absl::Status LoadLeft(std::uint64_t row, std::uint64_t count) {
    left_.resize(count * merged_.rank);
    if (merged_.b == nullptr) {  // a bias: what is added stands in a
      std::fill(left_.begin(), left_.end(), 1.0f);
      return absl::OkStatus();
    }
    if (!merged_.transposed) return ReadFactor(*merged_.b, row * merged_.rank, left_.size(), left_.data());
    turned_.resize(count);
    for (std::uint64_t k = 0; k < merged_.rank; ++k) {
      Q4_RETURN_IF_ERROR(ReadFactor(*merged_.a, k * merged_.rows + row, count, turned_.data()));
      for (std::uint64_t i = 0; i < count; ++i) left_[i * merged_.rank + k] = turned_[i];
    }
    return absl::OkStatus();
  }

  // Adds to values_[0, count) what belongs to columns [offset, offset + count) of the tile, in row `i` of the group.
  void AddTo(std::uint64_t i, std::uint64_t offset, std::uint64_t count) {
    kernels_.add_product(values_.data(), left_.data() + i * merged_.rank, right_.data() + offset, stride_, merged_.rank,
                         merged_.scale, count);
  }

  // The sums of a tile's elements, from the file, into values_: row `row`, number `i` of the group.
  absl::Status SumsOf(std::uint64_t row, std::uint64_t i, std::uint64_t column, std::uint64_t count) {
    Q4_RETURN_IF_ERROR(ReadFloats(*merged_.base, row * merged_.columns + column, count, values_.data()));
    AddTo(i, 0, count);
    return absl::OkStatus();
  }

  // magnitude / norm for what lies from `first` on, by the sums of squares.
  absl::Status Divide(std::uint64_t first, std::span<const double> squares, std::vector<float>* factors) {
    factors->resize(squares.size());
    Q4_RETURN_IF_ERROR(ReadFactor(*merged_.magnitude, first, squares.size(), factors->data()));
    for (std::size_t i = 0; i < squares.size(); ++i) (*factors)[i] /= static_cast<float>(std::sqrt(squares[i]));
    return absl::OkStatus();
  }

  absl::Status FindRowFactors(std::uint64_t row, std::uint64_t rows) {
    std::vector<std::array<double, kNormLanes>> lanes(rows);
    for (std::uint64_t column = 0; column < merged_.columns; column += tile_columns_) {
      const std::uint64_t count = std::min(tile_columns_, merged_.columns - column);
      Q4_RETURN_IF_ERROR(LoadRight(column, count));
      for (std::uint64_t i = 0; i < rows; ++i) {
        Q4_RETURN_IF_ERROR(SumsOf(row + i, i, column, count));
        // A tile begins at a multiple of the lanes.
        for (std::uint64_t j = 0; j < count; ++j) lanes[i][j % kNormLanes] += double{values_[j]} * double{values_[j]};
      }
    }
    std::vector<double> squares(rows);
    for (std::uint64_t i = 0; i < rows; ++i) {
      auto& lane = lanes[i];
      for (std::size_t half = kNormLanes / 2; half > 0; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
      }
      squares[i] = lane[0];
    }
    return Divide(row, squares, &row_factors_);
  }

  absl::Status FindColumnFactors() {
    const std::lock_guard lock(merged_.factors->mutex);
    if (!merged_.factors->values.empty()) return absl::OkStatus();
    std::vector<double> squares(merged_.columns);
    for (std::uint64_t column = 0; column < merged_.columns; column += tile_columns_) {
      const std::uint64_t count = std::min(tile_columns_, merged_.columns - column);
      Q4_RETURN_IF_ERROR(LoadRight(column, count));
      for (std::uint64_t row = 0; row < merged_.rows; row += group_rows_) {
        const std::uint64_t rows = std::min(group_rows_, merged_.rows - row);
        Q4_RETURN_IF_ERROR(LoadLeft(row, rows));
        for (std::uint64_t i = 0; i < rows; ++i) {
          Q4_RETURN_IF_ERROR(SumsOf(row + i, i, column, count));
          for (std::uint64_t j = 0; j < count; ++j) squares[column + j] += double{values_[j]} * double{values_[j]};
        }
      }
    }
    std::vector<float> factors;
    Q4_RETURN_IF_ERROR(Divide(0, squares, &factors));
    merged_.factors->values = std::move(factors);
    return absl::OkStatus();
  }

  // `out`: elements from `first` on, which lie in the rows [row, row + rows).
  absl::Status MergeRows(std::uint64_t row, std::uint64_t rows, std::uint64_t first, std::span<std::uint8_t> out) {
    const std::uint64_t item = ItemSize(tensor_.dtype), last = first + out.size() / item;
    const FloatType type = FloatTypeOf(tensor_.dtype);
    Q4_RETURN_IF_ERROR(LoadLeft(row, rows));
    const bool by_row = merged_.magnitude != nullptr && !merged_.transposed;
    if (by_row) Q4_RETURN_IF_ERROR(FindRowFactors(row, rows));
    const float* const by_column =
        merged_.magnitude != nullptr && merged_.transposed ? merged_.factors->values.data() : nullptr;
    for (std::uint64_t column = 0; column < merged_.columns; column += tile_columns_) {
      const std::uint64_t width = std::min(tile_columns_, merged_.columns - column);
      Q4_RETURN_IF_ERROR(LoadRight(column, width));
      for (std::uint64_t i = 0; i < rows; ++i) {
        const std::uint64_t tile = (row + i) * merged_.columns + column;
        const std::uint64_t begin = std::max(first, tile), end = std::min(last, tile + width);
        if (begin >= end) continue;
        const std::uint64_t count = end - begin;
        std::uint8_t* const at = out.data() + (begin - first) * item;
        kernels_.convert(type, at, count, FloatType::kF32, values_.data());
        AddTo(i, begin - tile, count);
        if (by_row) {
          for (std::uint64_t j = 0; j < count; ++j) values_[j] = row_factors_[i] * values_[j];
        } else if (by_column != nullptr) {
          const float* const factors = by_column + column + (begin - tile);
          for (std::uint64_t j = 0; j < count; ++j) values_[j] = factors[j] * values_[j];
        }
        MakeCanonical({values_.data(), count});
        kernels_.convert(FloatType::kF32, values_.data(), count, type, at);
      }
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const SourceReader reader_;
  const SourceTensor& tensor_;
  const MergedAdapter& merged_;
  const KernelTable& kernels_ = BestCpuKernels();
  std::uint64_t tile_columns_ = 0, group_rows_ = 0, stride_ = 0;
  std::vector<std::uint8_t> bytes_;
  std::vector<float> values_, right_, left_, turned_, row_factors_;
};

}  // namespace

absl::Status ReadMerged(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                        std::span<std::uint8_t> out) {
  return Merging(checkpoint, tensor).Read(first, out);
}

}  // namespace q4
