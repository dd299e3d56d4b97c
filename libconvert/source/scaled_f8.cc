// Q13: an element is its code times its scale in fp32, rounded once; every NaN is the canonical one. All values of a
// code stand in a table. Elements are worked on in pieces of a thousand, which stay in the first-level cache: codes to
// values, values times scales, run by run of elements that share one, then narrowing. The last two are loops that
// compilers turn into vector code.
#include "libconvert/source/scaled_f8.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "formats/base/status.h"
#include "kernels/numeric.h"

namespace q4 {
namespace {

constexpr std::uint64_t kPieceElems = 1024;
// Scales that are held at once: a row of blocks of 128 for 500,000 columns.
constexpr std::uint64_t kWindowScales = 4096;

using CodeTable = std::array<float, 256>;

// E4M3: sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities, and one NaN of either sign.
float ValueOfE4M3(unsigned code) {
  const unsigned exponent = (code >> 3) & 15, mantissa = code & 7;
  if ((code & 127) == 127) return FloatOf(kF32Nan);
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
  return code >= 128 ? -magnitude : magnitude;
}

// E5M2 is the upper byte of fp16.
float ValueOfE5M2(unsigned code) { return CanonicalNan(WidenF16(static_cast<std::uint16_t>(code << 8))); }

CodeTable MakeTable(float (*value_of)(unsigned)) {
  CodeTable table;
  for (unsigned code = 0; code < table.size(); ++code) table[code] = value_of(code);
  return table;
}

const CodeTable& TableOf(DType code) {
  static const CodeTable e4m3 = MakeTable(ValueOfE4M3), e5m2 = MakeTable(ValueOfE5M2);
  return code == DType::kF8E4M3 ? e4m3 : e5m2;
}

// A power of two by its exponent byte: 2^(byte - 127). 255 is NaN as an E8M0; as a number, 2^128, it is infinity.
float ValueOfExponent(std::uint8_t byte, bool is_e8m0) {
  if (byte == 0) return FloatOf(0x00400000);
  if (byte == 255 && is_e8m0) return FloatOf(kF32Nan);
  return FloatOf(std::uint32_t{byte} << 23);
}

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
        return ValueOfExponent(bytes_[i], tensor_.scaled->scale == DType::kF8E8M0);
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

void RoundTo(DType dtype, std::span<float> values) {
  if (dtype == DType::kF16) {
    for (float& value : values) value = WidenF16(NarrowF16(value));
  } else if (dtype == DType::kBF16) {
    for (float& value : values) value = WidenBf16(NarrowBf16(value));
  }
}

void StoreElements(DType dtype, std::span<const float> values, std::uint8_t* out) {
  std::array<float, kPieceElems> wide;
  std::array<std::uint16_t, kPieceElems> half;
  const std::size_t count = values.size();
  switch (dtype) {
    case DType::kBF16:
      for (std::size_t i = 0; i < count; ++i) half[i] = NarrowBf16(CanonicalNan(values[i]));
      break;
    case DType::kF16:
      for (std::size_t i = 0; i < count; ++i) half[i] = NarrowF16(CanonicalNan(values[i]));
      break;
    default:
      for (std::size_t i = 0; i < count; ++i) wide[i] = CanonicalNan(values[i]);
      std::memcpy(out, wide.data(), count * sizeof(float));
      return;
  }
  std::memcpy(out, half.data(), count * sizeof(std::uint16_t));
}

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
  const CodeTable& table = TableOf(scaled.code);
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
