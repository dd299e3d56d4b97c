#include "libconvert/inspect_delta.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "formats/base/status.h"
#include "kernels/kernels.h"
#include "libconvert/slab.h"

namespace q4 {
namespace {

std::vector<float> AsFloats(const std::vector<std::uint8_t>& bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

// Decodes a tensor slab by slab to fp32.
class SlabDecoder {
 public:
  SlabDecoder(const Q4Reader& reader, const Q4Tensor& tensor) : reader_(reader), tensor_(tensor) {}

  bool quantized() const { return tensor_.scheme != Q4Scheme::kRaw; }
  const std::vector<float>& scales() const { return scales_; }       // all; after ReadScales()
  const std::vector<std::uint8_t>& codes() const { return codes_; }  // of the slab decoded last
  const std::vector<float>& values() const { return values_; }       // the same

  absl::Status ReadScales() {
    if (!quantized()) return absl::OkStatus();
    if (!tensor_.nested) {
      Q4_ASSIGN_OR_RETURN(const auto bytes, reader_.ReadPart(tensor_, Q4Part::kScales));
      scales_ = AsFloats(bytes);
      return absl::OkStatus();
    }
    Q4_ASSIGN_OR_RETURN(const auto codes, reader_.ReadPart(tensor_, Q4Part::kScaleCodes));
    Q4_ASSIGN_OR_RETURN(const auto scales2, reader_.ReadPart(tensor_, Q4Part::kScales2));
    scales_.resize(codes.size());
    BestCpuKernels().dequantize_scales(codes.data(), AsFloats(scales2).data(), codes.size(), tensor_.nested_offset,
                                       scales_.data());
    return absl::OkStatus();
  }

  // `first` is a multiple of kSlabElems, so that a slab of codes is one chunk and one of raw data whole chunks.
  absl::Status Decode(std::uint64_t first, std::uint64_t count) {
    values_.resize(count);
    if (quantized()) {
      const std::uint64_t chunk = tensor_.Part(Q4Part::kCodes)->first_chunk + first / kQ4ChunkElems;
      Q4_ASSIGN_OR_RETURN(codes_, reader_.ReadChunk(chunk));
      BestCpuKernels().dequantize(CodeBookOf(tensor_.scheme), codes_.data(),
                                  scales_.data() + first / tensor_.block_size, count, tensor_.block_size,
                                  FloatType::kF32, values_.data());
      return absl::OkStatus();
    }
    const std::uint64_t item = ItemSize(tensor_.dtype);
    std::vector<std::uint8_t> bytes;
    for (std::uint64_t at = first * item; at < (first + count) * item; at += kQ4ChunkBytes) {
      Q4_ASSIGN_OR_RETURN(const auto chunk,
                          reader_.ReadChunk(tensor_.Part(Q4Part::kData)->first_chunk + at / kQ4ChunkBytes));
      bytes.insert(bytes.end(), chunk.begin(), chunk.end());
    }
    BestCpuKernels().convert(FloatTypeOf(tensor_.dtype), bytes.data(), count, FloatType::kF32, values_.data());
    return absl::OkStatus();
  }

 private:
  const Q4Reader& reader_;
  const Q4Tensor& tensor_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> values_;
};

std::uint64_t DifferingCodes(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const int difference = a[i] ^ b[i];
    count +=
        static_cast<std::uint64_t>((difference & 0xF0) != 0) + static_cast<std::uint64_t>((difference & 0x0F) != 0);
  }
  return count;
}

std::uint64_t DifferingFloats(const std::vector<float>& a, const std::vector<float>& b) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    count += std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]);
  }
  return count;
}

}  // namespace

absl::StatusOr<std::optional<TensorDelta>> CompareDecoded(const Q4Reader& left, const Q4Tensor& a,
                                                          const Q4Reader& right, const Q4Tensor& b) {
  static_assert(kSlabElems == kQ4ChunkElems && kSlabElems * 2 % kQ4ChunkBytes == 0);
  if (a.shape != b.shape || !IsQuantizable(a.dtype) || !IsQuantizable(b.dtype)) return std::nullopt;
  SlabDecoder before(left, a), after(right, b);
  Q4_RETURN_IF_ERROR(before.ReadScales());
  Q4_RETURN_IF_ERROR(after.ReadScales());
  TensorDelta delta;
  const bool same_layout = before.quantized() && a.scheme == b.scheme && a.block_size == b.block_size;
  if (same_layout) {
    delta.differing_codes = 0;
    delta.differing_scales = DifferingFloats(before.scales(), after.scales());
  }
  double error = 0, energy = 0;
  for (std::uint64_t first = 0; first < a.elems; first += kSlabElems) {
    const std::uint64_t count = std::min(kSlabElems, a.elems - first);
    Q4_RETURN_IF_ERROR(before.Decode(first, count));
    Q4_RETURN_IF_ERROR(after.Decode(first, count));
    delta.differing_elems += DifferingFloats(before.values(), after.values());
    if (same_layout) *delta.differing_codes += DifferingCodes(before.codes(), after.codes());
    for (std::uint64_t i = 0; i < count; ++i) {
      const double x = before.values()[i], y = after.values()[i];
      const double e = x - y;
      error += e * e;
      energy += x * x;
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
