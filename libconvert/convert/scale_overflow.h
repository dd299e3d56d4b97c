// numerics Q5.12: a tensor whose nested scales would make an element infinite keeps fp32 scales. A nested scale is off
// by up to about 1 % (Q5.11), so that an element near the top of its dtype's range can decode beyond it. Internal to
// libconvert/convert/treat_quantized.cc.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/tensor/source_tensor.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/source/source_reader.h"

namespace q4 {

// Elements that are looked at together. A whole number of blocks of any size, and either whole groups of blocks or
// blocks of one group.
inline constexpr std::uint64_t kOverflowPieceElems = std::uint64_t{1} << 16;

// Most that Overflows() holds: elements, codes, two arrays of scales, sums of their groups. No budget counts it,
// because it is no more than what the worker has set aside for a slab's decoded scales (memory_needs.cc).
inline constexpr std::uint64_t kOverflowScratchBytes =
    kOverflowPieceElems * sizeof(float) + PackedBytes(kOverflowPieceElems) +
    kOverflowPieceElems / 32 * 2 * sizeof(float) + kOverflowPieceElems / 32 / kScaleGroup * sizeof(GroupSums);

// Whether any element of `source`, which has no NaN and no infinity, decodes to infinity with the nested scales of
// `tensor`: `scale_codes` of all blocks, `scales2` of their groups, and its nested_offset. Elements are read, again,
// only where a decoded scale is so large that one could: nearly never. Runs on the calling thread, which must have the
// canonical float environment. An error is one of reading.
absl::StatusOr<bool> Overflows(const KernelTable& kernels, const SourceReader& reader, const SourceTensor& source,
                               const Q4Tensor& tensor, std::span<const std::uint8_t> scale_codes,
                               std::span<const float> scales2);

}  // namespace q4
