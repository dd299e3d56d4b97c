// Q13: an element is its code times its scale in fp32, rounded once; every NaN is the canonical one. All values of a
// code stand in a table. Elements are worked on in pieces of a thousand, which stay in the first-level cache: codes to
// values, values times scales, run by run of elements that share one, then narrowing. The last two are loops that
// compilers turn into vector code.
#include "libconvert/source/scaled_f8.h"

#include <algorithm>
#include <array>

#include "formats/base/status.h"
#include "kernels/numeric.h"
#include "libconvert/source/small_floats.h"

namespace q4 {
namespace {

constexpr std::uint64_t kPieceElems = kMostStored;
// Scales that are held at once: a row of blocks of 128 for 500,000 columns.
constexpr std::uint64_t kWindowScales = 4096;

// The scales of one tensor as fp32, in windows: consecutive ones are read at once.
class ScaleWindow {
 public:
  ScaleWindow(const Checkpoint& checkpoint, const SourceTensor& tensor) : checkpoint_(checkpoint), tensor_(tensor) {
    if (tensor.extents.size() < 2) return;
    item_ = ItemSize(tensor.scaled->scale);
    total_ = tensor.extents[1].bytes / item_;
  }

  // Scale number `index`; 1 for a tensor without scales.
  absl::Status Get(std::uint64_t index, float* scale) {
    if (total_ == 0) {
      *scale = 1;
      return absl::OkStatus();
    }
    if (index - begin_ >= count_) Q4_RETURN_IF_ERROR(Load(index));
    *scale = values_[index - begin_];
    return absl::OkStatus();
  }

 private:
  absl::Status Load(std::uint64_t index) {
    count_ = 0;
    const std::uint64_t count = std::min(total_ - std::min(index, total_), kWindowScales);
    // At least one, so that an index outside the extent is refused there.
    const std::uint64_t bytes = std::max<std::uint64_t>(count, 1) * item_;
    Q4_RETURN_IF_ERROR(checkpoint_.ReadExtent(tensor_, 1, index * item_, {bytes_.data(), bytes}));
    for (std::uint64_t i = 0; i < count; ++i) values_[i] = Decode(i);
    begin_ = index;
    count_ = count;
    return absl::OkStatus();
  }

  float Decode(std::uint64_t i) const {
    switch (tensor_.scaled->scale) {
      case DType::kF32:
        return LoadElement(FloatType::kF32, bytes_.data(), i);
      case DType::kF16:
        return LoadElement(FloatType::kF16, bytes_.data(), i);
      case DType::kBF16:
        return LoadElement(FloatType::kBF16, bytes_.data(), i);
      default:
        return ValuesOf(tensor_.scaled->scale)[bytes_[i]];
    }
  }

  const Checkpoint& checkpoint_;
  const SourceTensor& tensor_;
  std::uint64_t item_ = 0, total_ = 0;
  std::uint64_t begin_ = 0, count_ = 0;  // of the window
  std::array<std::uint8_t, kWindowScales * sizeof(float)> bytes_;
  std::array<float, kWindowScales> values_;
};

// Where an element lies, counted on from one run to the next: a division for each would cost more than the rest.
struct Place {
  std::uint64_t matrix = 0, row = 0, column = 0;

  void Advance(std::uint64_t elems, const ScaledF8& scaled) {
    column += elems;
    if (column < scaled.columns) return;
    column = 0;
    if (++row < scaled.rows) return;
    row = 0;
    ++matrix;
  }
};

}  // namespace

absl::Status ReadScaledF8(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                          std::span<std::uint8_t> out) {
  const ScaledF8& scaled = *tensor.scaled;
  const std::uint64_t item = ItemSize(tensor.dtype), count = out.size() / item;
  // A piece is copied before it is overwritten: behind it lie codes of later pieces only, for an element takes more
  // bytes than its code.
  const std::span<std::uint8_t> codes = out.last(count);
  Q4_RETURN_IF_ERROR(checkpoint.ReadExtent(tensor, 0, first, codes));
  if (count == 0) return absl::OkStatus();
  const CodeTable& table = ValuesOf(scaled.code);
  ScaleWindow scales(checkpoint, tensor);
  Place place = {first / scaled.columns / scaled.rows, first / scaled.columns % scaled.rows, first % scaled.columns};
  std::array<float, kPieceElems> values;
  for (std::uint64_t begin = 0; begin < count; begin += kPieceElems) {
    const std::uint64_t piece = std::min(kPieceElems, count - begin);
    for (std::uint64_t i = 0; i < piece; ++i) values[i] = table[codes[begin + i]];
    for (std::uint64_t done = 0; done < piece;) {
      const std::uint64_t block_row = place.row / scaled.block_rows, block_column = place.column / scaled.block_columns;
      const std::uint64_t index =
          place.matrix * scaled.matrix_step + block_row * scaled.row_step + block_column * scaled.column_step;
      float scale = 1;
      Q4_RETURN_IF_ERROR(scales.Get(index, &scale));
      const std::uint64_t end = std::min((block_column + 1) * scaled.block_columns, scaled.columns);
      const std::uint64_t run = std::min(end - place.column, piece - done);
      for (std::uint64_t i = done; i < done + run; ++i) values[i] *= scale;
      place.Advance(run, scaled);
      done += run;
    }
    RoundTo(scaled.product, {values.data(), piece});
    StoreElements(tensor.dtype, {values.data(), piece}, out.data() + begin * item);
  }
  return absl::OkStatus();
}

}  // namespace q4
