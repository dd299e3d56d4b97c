// Q14: of a matrix an element is known by the byte of its scale and its code, 256 times 16 values. Each row of that
// table is made when its scale is first met, with all roundings, so that what is left is to look up and to store.
//
// Codes that lie as the elements do, and their scales, are read straight through. Where a byte holds two of a column,
// each row of elements is read by itself, from bytes that lie one after the other. A transposed matrix is cut into
// tiles of some columns, whose codes lie in lines: in one read where the lines are short, else a read for each.
#include "libconvert/source/packed_f4.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>

#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"
#include "kernels/numeric.h"
#include "libconvert/source/small_floats.h"

namespace q4 {
namespace {

// Elements that are worked on at once, of one row: a few pages of codes and scales.
constexpr std::uint64_t kRunElems = 4096;
// Of a transposed matrix: a cache line of elements in each row, or two, and no more lines of codes than the first-level
// cache has room for.
constexpr std::uint64_t kTileColumns = 64, kTileRows = 4096;
constexpr std::uint64_t kCodeScratch = std::uint64_t{128} << 10, kScaleScratch = std::uint64_t{64} << 10;
static_assert(kTileColumns * kTileRows / 2 <= kCodeScratch);
// A block has 16 elements or more; a range may begin and end within one.
static_assert(kTileColumns * (kTileRows / 16 + 2) <= kScaleScratch);

// E2M1: sign, 2 bits of exponent with bias 1, one of mantissa.
constexpr std::array<float, 16> kE2M1 = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                         -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// Elements by scale and code, of one matrix. Element: an unsigned integer of the element's size.
template <typename Element>
class F4Table {
 public:
  using Row = std::array<Element, kE2M1.size()>;

  F4Table(DType dtype, const PackedF4& packed) : dtype_(dtype), packed_(packed) {}

  // Begins a matrix, whose own scale this is.
  void Begin(float global) {
    global_ = global;
    made_.fill(false);
  }
  const Row& operator[](std::uint8_t scale) {
    if (!made_[scale]) Make(scale);
    return rows_[scale];
  }

 private:
  void Make(std::uint8_t code) {
    float scale = ValuesOf(packed_.scale)[code];
    if (packed_.use == PackedF4::Global::kFactor) scale *= global_;
    if (packed_.use == PackedF4::Global::kDivisor) scale /= global_;
    RoundTo(packed_.joint, {&scale, 1});
    std::array<float, kE2M1.size()> values;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = packed_.shifts ? std::ldexp(kE2M1[i], code - 127) : kE2M1[i] * scale;
    }
    RoundTo(packed_.product, values);
    StoreElements(dtype_, values, reinterpret_cast<std::uint8_t*>(rows_[code].data()));
    made_[code] = true;
  }

  const DType dtype_;
  const PackedF4& packed_;
  float global_ = 1;
  std::array<bool, 256> made_ = {};
  std::array<Row, 256> rows_;
};

template <typename Element>
class F4Read {
 public:
  F4Read(const Checkpoint& checkpoint, const SourceTensor& tensor, std::span<std::uint8_t> out)
      : checkpoint_(checkpoint),
        tensor_(tensor),
        packed_(*tensor.packed),
        rows_(packed_.rows),
        columns_(packed_.columns),
        out_(out.data()),
        table_(tensor.dtype, packed_) {}

  absl::Status Range(std::uint64_t first, std::uint64_t count) {
    while (count > 0) {
      const std::uint64_t matrix = first / columns_ / rows_;
      const std::uint64_t at = first - matrix * rows_ * columns_;  // in it
      const std::uint64_t elems = std::min(count, rows_ * columns_ - at);
      Q4_RETURN_IF_ERROR(BeginMatrix(matrix));
      Q4_RETURN_IF_ERROR(InMatrix(matrix, at, elems));
      first += elems;
      count -= elems;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status BeginMatrix(std::uint64_t matrix) {
    if (packed_.use == PackedF4::Global::kNone) {
      table_.Begin(1);
      return absl::OkStatus();
    }
    std::array<std::uint8_t, sizeof(float)> bytes;
    const std::uint64_t item = ItemSize(packed_.global);
    Q4_RETURN_IF_ERROR(checkpoint_.ReadExtent(tensor_, 2, matrix * packed_.global_step * item, {bytes.data(), item}));
    const FloatType type = packed_.global == DType::kF16    ? FloatType::kF16
                           : packed_.global == DType::kBF16 ? FloatType::kBF16
                                                            : FloatType::kF32;
    table_.Begin(LoadElement(type, bytes.data(), 0));
    return absl::OkStatus();
  }

  // Elements [at, at + count) of a matrix, to where the last ones ended.
  absl::Status InMatrix(std::uint64_t matrix, std::uint64_t at, std::uint64_t count) {
    if (packed_.order == PackedF4::Order::kRows) return Straight(matrix * rows_ * columns_ + at, count);
    while (count > 0) {
      const std::uint64_t row = at / columns_, column = at % columns_;
      std::uint64_t taken = std::min(count, columns_ - column);
      if (packed_.order == PackedF4::Order::kColumns) {
        Q4_RETURN_IF_ERROR(Line(matrix, row, column, taken));
      } else {
        // Whole rows are taken together.
        const std::uint64_t whole = column == 0 ? count / columns_ : 0;
        if (whole > 0) taken = whole * columns_;
        Q4_RETURN_IF_ERROR(Transposed(matrix, row, whole > 0 ? whole : 1, column, whole > 0 ? columns_ : taken));
      }
      out_ += taken * sizeof(Element);
      at += taken;
      count -= taken;
    }
    return absl::OkStatus();
  }

  // Codes as the elements lie: element i of the tensor has the i-th code, and its scale is number i / block, for a
  // block never runs over the end of a row.
  absl::Status Straight(std::uint64_t first, std::uint64_t count) {
    std::array<std::uint8_t, kRunElems / 2 + 1> codes;
    std::array<std::uint8_t, kRunElems / 16 + 2> scales;
    for (const std::uint64_t end = first + count; first < end;) {
      const std::uint64_t stop = std::min(end, first + kRunElems);
      const std::uint64_t code = first / 2, block = first / packed_.block;
      Q4_RETURN_IF_ERROR(checkpoint_.ReadExtent(tensor_, 0, code, {codes.data(), (stop - 1) / 2 - code + 1}));
      Q4_RETURN_IF_ERROR(
          checkpoint_.ReadExtent(tensor_, 1, block, {scales.data(), (stop - 1) / packed_.block - block + 1}));
      std::array<Element, kRunElems> elements;
      std::size_t filled = 0;
      while (first < stop) {
        const std::uint64_t number = first / packed_.block;
        const auto& row = table_[scales[number - block]];
        for (const std::uint64_t last = std::min(stop, (number + 1) * packed_.block); first < last; ++first) {
          elements[filled++] = row[CodeOf(codes[first / 2 - code], first)];
        }
      }
      std::memcpy(out_, elements.data(), filled * sizeof(Element));
      out_ += filled * sizeof(Element);
    }
    return absl::OkStatus();
  }

  // Elements [column, column + count) of a row, where a byte holds two of a column.
  absl::Status Line(std::uint64_t matrix, std::uint64_t row, std::uint64_t column, std::uint64_t count) {
    const std::uint64_t code = (matrix * (rows_ / 2) + row / 2) * columns_ + column;
    const std::uint64_t scale = (matrix * (rows_ / packed_.block) + row / packed_.block) * columns_ + column;
    std::array<std::uint8_t, kRunElems> codes, scales;
    std::array<Element, kRunElems> elements;
    for (std::uint64_t done = 0; done < count; done += kRunElems) {
      const std::uint64_t run = std::min(kRunElems, count - done);
      Q4_RETURN_IF_ERROR(checkpoint_.ReadExtent(tensor_, 0, code + done, {codes.data(), run}));
      Q4_RETURN_IF_ERROR(checkpoint_.ReadExtent(tensor_, 1, scale + done, {scales.data(), run}));
      for (std::uint64_t i = 0; i < run; ++i) elements[i] = table_[scales[i]][CodeOf(codes[i], row)];
      std::memcpy(out_ + done * sizeof(Element), elements.data(), run * sizeof(Element));
    }
    return absl::OkStatus();
  }

  // A rectangle of a transposed matrix: rows [row, row + height), columns [column, column + width).
  absl::Status Transposed(std::uint64_t matrix, std::uint64_t row, std::uint64_t height, std::uint64_t column,
                          std::uint64_t width) {
    for (std::uint64_t r = 0; r < height; r += kTileRows) {
      for (std::uint64_t c = 0; c < width; c += kTileColumns) {
        std::uint8_t* const out = out_ + (r * width + c) * sizeof(Element);
        Q4_RETURN_IF_ERROR(Tile(matrix, row + r, std::min(kTileRows, height - r), column + c,
                                std::min(kTileColumns, width - c), width, out));
      }
    }
    return absl::OkStatus();
  }

  // `pitch`: elements from one row in memory to the next.
  absl::Status Tile(std::uint64_t matrix, std::uint64_t row, std::uint64_t height, std::uint64_t column,
                    std::uint64_t width, std::uint64_t pitch, std::uint8_t* out) {
    if (scratch_ == nullptr) scratch_ = std::make_unique<std::uint8_t[]>(kCodeScratch + kScaleScratch);
    std::uint8_t* const codes = scratch_.get();
    std::uint8_t* const scales = codes + kCodeScratch;
    const std::uint64_t line = matrix * columns_ + column, last = row + height - 1;
    std::uint64_t code_pitch = 0, scale_pitch = 0;
    Q4_RETURN_IF_ERROR(Lines(0, rows_ / 2, line, width, row / 2, last / 2 + 1, {codes, kCodeScratch}, &code_pitch));
    Q4_RETURN_IF_ERROR(Lines(1, rows_ / packed_.block, line, width, row / packed_.block, last / packed_.block + 1,
                             {scales, kScaleScratch}, &scale_pitch));
    std::array<const typename F4Table<Element>::Row*, kTileColumns> tables;
    std::array<Element, kTileColumns> elements;
    for (std::uint64_t r = row; r <= last; ++r) {
      if (r == row || r % packed_.block == 0) {
        const std::uint8_t* const scale = scales + r / packed_.block - row / packed_.block;
        for (std::uint64_t c = 0; c < width; ++c) tables[c] = &table_[scale[c * scale_pitch]];
      }
      const std::uint8_t* const code = codes + r / 2 - row / 2;
      for (std::uint64_t c = 0; c < width; ++c) elements[c] = (*tables[c])[CodeOf(code[c * code_pitch], r)];
      std::memcpy(out + (r - row) * pitch * sizeof(Element), elements.data(), width * sizeof(Element));
    }
    return absl::OkStatus();
  }

  // Bytes [begin, end) of `count` lines of `length` bytes, from line `line` of an extent on. `pitch`: from one line to
  // the next in `into`.
  absl::Status Lines(std::size_t extent, std::uint64_t length, std::uint64_t line, std::uint64_t count,
                     std::uint64_t begin, std::uint64_t end, std::span<std::uint8_t> into, std::uint64_t* pitch) {
    const std::uint64_t wanted = end - begin;
    const std::uint64_t at = line * length + begin;
    // What lies between is copied, which takes less time than as many reads.
    if (count == 1 || length <= (into.size() - wanted) / (count - 1)) {
      *pitch = length;
      return checkpoint_.ReadExtent(tensor_, extent, at, into.first((count - 1) * length + wanted));
    }
    *pitch = wanted;
    for (std::uint64_t i = 0; i < count; ++i) {
      Q4_RETURN_IF_ERROR(checkpoint_.ReadExtent(tensor_, extent, at + i * length, into.subspan(i * wanted, wanted)));
    }
    return absl::OkStatus();
  }

  static unsigned CodeOf(std::uint8_t byte, std::uint64_t index) { return index % 2 == 0 ? byte & 15u : byte >> 4u; }

  const Checkpoint& checkpoint_;
  const SourceTensor& tensor_;
  const PackedF4& packed_;
  const std::uint64_t rows_, columns_;
  std::uint8_t* out_;
  F4Table<Element> table_;
  std::unique_ptr<std::uint8_t[]> scratch_;
};

}  // namespace

absl::Status ReadPackedF4(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                          std::span<std::uint8_t> out) {
  const std::uint64_t item = ItemSize(tensor.dtype), count = out.size() / item;
  if (!RangeFits(first, count, tensor.elems)) {
    return Fail(kReadOutsideTensor, checkpoint.FileOf(tensor).path(), tensor.name);
  }
  if (item == sizeof(std::uint16_t)) return F4Read<std::uint16_t>(checkpoint, tensor, out).Range(first, count);
  return F4Read<std::uint32_t>(checkpoint, tensor, out).Range(first, count);
}

}  // namespace q4
