#include "libconvert/slab.h"

#include <algorithm>

namespace q4 {

FloatType FloatTypeOf(DType dtype) {
  return dtype == DType::kF32 ? FloatType::kF32 : dtype == DType::kF16 ? FloatType::kF16 : FloatType::kBF16;
}

CodeBook CodeBookOf(Q4Scheme scheme) { return scheme == Q4Scheme::kNf4 ? CodeBook::kNf4 : CodeBook::kFp4; }

void SlabStatistics::AddTo(std::uint64_t first_elem, std::uint32_t block_size, TensorStatsAccumulator* total) const {
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    total->AddSlab(first_elem + i * kScaleGroup * block_size, block_size, tiles[i], {&groups[i], 1});
  }
}

std::uint64_t QuantizeSlab(const KernelTable& kernels, const Q4Tensor& tensor, const std::uint8_t* x, std::uint64_t n,
                           std::uint8_t* codes, float* scales, const float* decoded, SlabStatistics* statistics) {
  const FloatType type = FloatTypeOf(tensor.dtype);
  const CodeBook book = CodeBookOf(tensor.scheme);
  const std::uint64_t tile_elems = kScaleGroup * tensor.block_size;
  const std::uint64_t tiles = n / tile_elems + (n % tile_elems != 0);
  statistics->tiles.resize(tiles);
  statistics->groups.resize(tiles);
  for (std::uint64_t tile = 0; tile < tiles; ++tile) {
    const std::uint64_t first = tile * tile_elems;
    const std::uint64_t count = std::min(tile_elems, n - first);
    const std::uint8_t* const tile_x = x + first * FloatSize(type);
    std::uint8_t* const tile_codes = codes + first / 2;
    float* const tile_scales = scales + tile * kScaleGroup;
    const std::uint64_t bad =
        kernels.quantize(type, book, tile_x, count, tensor.block_size, tile_codes, tile_scales);
    if (bad != kAllFinite) return first + bad;
    kernels.error_stats(type, book, tile_x, tile_codes, decoded != nullptr ? decoded + tile * kScaleGroup : tile_scales,
                        count, tensor.block_size, &statistics->groups[tile], &statistics->tiles[tile]);
  }
  return kAllFinite;
}

}  // namespace q4
