// One slab of a tensor through the kernels: the step that all backends share and that work is cut into.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/q4/container.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {

// Elements per slab: one chunk of codes, and one or two chunks of data of a tensor that is kept.
inline constexpr std::uint64_t kSlabElems = kQ4ChunkElems;

// Elements of a tile, what the kernels are given at once: it stays in the cache between quantizing and taking
// statistics. A whole number of SUM256 groups, several where blocks are small, because each call searches its maxima
// anew.
std::uint64_t TileElems(std::uint32_t block_size);

// Statistics of a slab, tile by tile, ready to be added in order.
struct SlabStatistics {
  std::vector<SlabStats> tiles;
  std::vector<GroupSums> groups;  // of all tiles, one after the other
};

// What the kernels need to know of a slab.
struct SlabShape : QuantFormat {
  FloatType type = FloatType::kF32;
  std::uint64_t elems = 0;
  CodeBook book() const { return CodeBookOf(*this); }
};
// REQUIRES: the tensor is to be quantized.
SlabShape SlabShapeOf(const Q4Tensor& tensor, std::uint64_t elems);

// Quantizes the elements at `x` and takes their error statistics, in tiles that stay in the cache:
// codes[PackedBytes(elems)], scales[BlockCount(elems)] (the undecoded ones). With `decoded` scales, statistics are
// taken with those. Returns kAllFinite or the index of the first non-finite element.
std::uint64_t QuantizeSlab(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                           std::uint8_t* codes, float* scales, const float* decoded, SlabStatistics* statistics);

// The statistics alone, of elements that were quantized before.
void TakeSlabStatistics(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                        const std::uint8_t* codes, const float* decoded, SlabStatistics* statistics);

}  // namespace q4
