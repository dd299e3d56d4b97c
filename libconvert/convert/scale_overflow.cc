// Goes through the tensor in pieces small enough for a worker's scratch memory. For each piece the scales are decoded
// first, which is cheap; only where one of them is beyond the threshold are the elements read again, quantized as they
// will be, and decoded. The count of infinite elements is that of the error statistics (Q8.9), so that nothing can be
// counted here in another way than there.
#include "libconvert/convert/scale_overflow.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/scheme/slab.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {
namespace {

// |y| from which an output of this type is infinite (Q5.12, Q8.9): the midpoint past the largest finite value.
double OverflowThreshold(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 65520.0;
    case DType::kBF16:
      return 0x1.FFp+127;
    default:
      // fp32 output is y32 itself (Q6.1): infinite only if the scale is.
      return std::numeric_limits<double>::infinity();
  }
}

}  // namespace

absl::StatusOr<bool> Overflows(const KernelTable& kernels, const SourceReader& reader, const SourceTensor& source,
                               const Q4Tensor& tensor, std::span<const std::uint8_t> scale_codes,
                               std::span<const float> scales2) {
  const double threshold = OverflowThreshold(tensor.dtype);
  const std::uint64_t item = ItemSize(tensor.dtype);
  const StoredScales stored{true, nullptr, scale_codes.data(), scales2.data(), tensor.nested_offset};
  std::vector<float> decoded, scales;
  std::vector<std::uint8_t> x, codes;
  std::vector<GroupSums> groups;
  for (std::uint64_t first = 0; first < tensor.elems; first += kOverflowPieceElems) {
    const std::uint64_t n = std::min(kOverflowPieceElems, tensor.elems - first);
    const std::uint64_t first_block = first / tensor.block_size, blocks = BlockCount(n, tensor.block_size);
    // A piece may have some blocks of a group only: Skip() finds the group scale from its first block.
    DecodedScales(kernels, stored.Skip(first_block), blocks, &decoded);
    // No code value is beyond 1: below the threshold a scale cannot overflow. Negated, so that NaN is looked at.
    const bool possible = std::any_of(decoded.begin(), decoded.end(),
                                      [&](float s) { return !(std::fabs(static_cast<double>(s)) < threshold); });
    if (!possible) continue;
    x.resize(n * item);
    Q4_RETURN_IF_ERROR(reader.Read(source, first, x));
    codes.resize(PackedBytes(n));
    scales.resize(blocks);
    groups.resize(GroupCount(blocks));
    const SlabShape shape = SlabShapeOf(tensor, n);
    // Chosen as in the last pass: under the scales before nesting, or under the decoded ones by an encoder that
    // searches. Elements are finite: the first pass has seen them.
    SlabStats stats;
    const Encoder& encoder = EncoderOf(tensor.encoder);
    if (encoder.searching() != nullptr) {
      SearchingEncoder::CodesUnder(kernels, shape, x.data(), decoded.data(), codes.data());
    } else {
      (void)encoder.ChooseCodes(kernels, shape, x.data(), scales.data(), codes.data());
    }
    kernels.error_stats(shape.type, shape.book(), x.data(), codes.data(), decoded.data(), n, shape.block_size,
                        groups.data(), &stats);
    if (stats.overflow != 0) return true;
  }
  return false;
}

}  // namespace q4
