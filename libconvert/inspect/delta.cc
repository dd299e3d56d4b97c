// Both tensors are decoded to fp32 slab by slab and compared in one loop. All scales are read first: they are a small
// share of a tensor, and a slab's blocks then follow from its first element. A kept tensor is read the same way and
// only widened, so the loop does not know the difference.
#include "libconvert/inspect/delta.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/model/decoder.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// Decodes a tensor slab by slab to fp32, in the same buffers.
class SlabDecoder {
 public:
  SlabDecoder(const KernelTable& kernels, const ReadableTensor& from)
      : kernels_(kernels), tensor_(from.tensor), parts_(*from.parts), decoder_(kernels, tensor_, parts_) {}

  bool quantized() const { return tensor_.quantized(); }
  std::span<const float> scales() const { return scales_.decoded; }       // all; after ReadScales()
  std::span<const std::uint8_t> codes() const { return codes_.bytes(); }  // of the slab decoded last
  std::span<const float> values() const { return values_; }               // the same

  absl::Status ReadScales() {
    if (!quantized()) return absl::OkStatus();
    Q4_ASSIGN_OR_RETURN(scales_, decoder_.ReadScales(0, tensor_.blocks()));
    return absl::OkStatus();
  }

  // Makes the elements [first, first + count) the current slab. `first` is a multiple of kSlabElems, which every block
  // size divides, so that codes begin with a byte and scales with a block.
  absl::Status Decode(std::uint64_t first, std::uint64_t count) {
    values_.resize(count);
    if (quantized()) {
      Q4_ASSIGN_OR_RETURN(codes_, decoder_.ReadCodes(first, count));
      decoder_.Decode(codes_.data(), scales().data() + first / tensor_.block_size, count, FloatType::kF32,
                      values_.data());
      return absl::OkStatus();
    }
    const std::uint64_t item = ItemSize(tensor_.dtype);
    Q4_ASSIGN_OR_RETURN(const PartBytes data, parts_.Read(Q4Part::kData, first * item, count * item));
    kernels_.convert(FloatTypeOf(tensor_.dtype), data.data(), count, FloatType::kF32, values_.data());
    return absl::OkStatus();
  }

 private:
  const KernelTable& kernels_;
  const Q4Tensor& tensor_;
  const PartReader& parts_;
  // Used of quantized tensors alone.
  const TensorDecoder decoder_;
  BlockScales scales_;
  PartBytes codes_;
  std::vector<float> values_;
};

// How many of `count` codes differ. The padding nibble of an odd count is none.
std::uint64_t DifferingCodes(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b, std::uint64_t count) {
  std::uint64_t differing = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    // The earlier code lies in the high half (Q3.1).
    const int mask = i % 2 == 0 ? 0xF0 : 0x0F;
    differing += static_cast<std::uint64_t>(((a[i / 2] ^ b[i / 2]) & mask) != 0);
  }
  return differing;
}

// As bits: -0 and 0 differ, and a NaN equals itself.
std::uint64_t DifferingFloats(std::span<const float> a, std::span<const float> b) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    count += std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]);
  }
  return count;
}

}  // namespace

absl::StatusOr<std::optional<TensorDelta>> CompareDecoded(const KernelTable& kernels, const ReadableTensor& a,
                                                          const ReadableTensor& b) {
  const Q4Tensor& left = a.tensor;
  const Q4Tensor& right = b.tensor;
  if (left.shape != right.shape || !IsQuantizable(left.dtype) || !IsQuantizable(right.dtype)) return std::nullopt;
  SlabDecoder before(kernels, a), after(kernels, b);
  Q4_RETURN_IF_ERROR(before.ReadScales());
  Q4_RETURN_IF_ERROR(after.ReadScales());
  TensorDelta delta;
  // Codes and scales can be compared one by one only where they mean the same elements.
  const bool same_layout = before.quantized() && left.scheme == right.scheme && left.block_size == right.block_size;
  if (same_layout) {
    delta.differing_codes = 0;
    delta.differing_scales = DifferingFloats(before.scales(), after.scales());
  }
  // In fp64, one element after the other: these are for people, and no other tool computes them again bit for bit.
  double error = 0, energy = 0;
  for (std::uint64_t first = 0; first < left.elems; first += kSlabElems) {
    const std::uint64_t count = std::min(kSlabElems, left.elems - first);
    Q4_RETURN_IF_ERROR(before.Decode(first, count));
    Q4_RETURN_IF_ERROR(after.Decode(first, count));
    delta.differing_elems += DifferingFloats(before.values(), after.values());
    if (same_layout) *delta.differing_codes += DifferingCodes(before.codes(), after.codes(), count);
    for (std::uint64_t i = 0; i < count; ++i) {
      const double x = before.values()[i], y = after.values()[i];
      const double e = x - y;
      error += e * e;
      energy += x * x;
      // False for a NaN, so that one does not hide all other differences.
      if (std::fabs(e) > delta.max_abs) {
        delta.max_abs = std::fabs(e);
        delta.max_abs_index = first + i;
      }
    }
  }
  delta.nmse = energy > 0 ? error / energy : (error == 0 ? 0 : std::numeric_limits<double>::infinity());
  return delta;
}

}  // namespace q4
