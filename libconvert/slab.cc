#include "libconvert/slab.h"

#include <algorithm>

namespace q4 {

FloatType FloatTypeOf(DType dtype) {
  return dtype == DType::kF32 ? FloatType::kF32 : dtype == DType::kF16 ? FloatType::kF16 : FloatType::kBF16;
}

CodeBook CodeBookOf(Q4Scheme scheme) { return scheme == Q4Scheme::kNf4 ? CodeBook::kNf4 : CodeBook::kFp4; }

std::uint64_t TileElems(std::uint32_t block_size) {
  constexpr std::uint64_t kWantedElems = std::uint64_t{1} << 16;
  const std::uint64_t group_elems = kScaleGroup * block_size;
  return std::max(kWantedElems / group_elems, std::uint64_t{1}) * group_elems;
}

void SlabStatistics::AddTo(std::uint64_t first_elem, std::uint32_t block_size, TensorStatsAccumulator* total) const {
  std::span<const GroupSums> left = groups;
  for (const SlabStats& tile : tiles) {
    const std::uint64_t count = GroupCount(BlockCount(tile.count, block_size));
    total->AddSlab(first_elem, block_size, tile, left.first(count));
    left = left.subspan(count);
    first_elem += tile.count;
  }
}

std::uint64_t QuantizeSlab(const KernelTable& kernels, const Q4Tensor& tensor, const std::uint8_t* x, std::uint64_t n,
                           std::uint8_t* codes, float* scales, const float* decoded, SlabStatistics* statistics) {
  const FloatType type = FloatTypeOf(tensor.dtype);
  const CodeBook book = CodeBookOf(tensor.scheme);
  const std::uint64_t tile_elems = TileElems(tensor.block_size);
  statistics->tiles.resize(n / tile_elems + (n % tile_elems != 0));
  statistics->groups.resize(GroupCount(BlockCount(n, tensor.block_size)));
  std::uint64_t first = 0;
  for (SlabStats& tile : statistics->tiles) {
    const std::uint64_t count = std::min(tile_elems, n - first), first_block = first / tensor.block_size;
    const std::uint8_t* const tile_x = x + first * FloatSize(type);
    std::uint8_t* const tile_codes = codes + first / 2;
    float* const tile_scales = scales + first_block;
    const std::uint64_t bad =
        kernels.quantize(type, book, tile_x, count, tensor.block_size, tile_codes, tile_scales);
    if (bad != kAllFinite) return first + bad;
    kernels.error_stats(type, book, tile_x, tile_codes, decoded != nullptr ? decoded + first_block : tile_scales, count,
                        tensor.block_size, &statistics->groups[first_block / kScaleGroup], &tile);
    first += count;
  }
  return kAllFinite;
}

}  // namespace q4
