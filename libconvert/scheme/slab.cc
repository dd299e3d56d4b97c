// Slabs as a sequence of tiles. ForEachTile cuts a slab and gives each tile its own places in the statistics; the two
// functions below it say what is done to a tile.
#include "libconvert/scheme/slab.h"

#include <algorithm>

namespace q4 {

std::uint64_t TileElems(std::uint32_t block_size) {
  // 128 KiB of bf16 and 32 KiB of codes: they fit a core's L2 cache beside each other.
  constexpr std::uint64_t kWantedElems = std::uint64_t{1} << 16;
  const std::uint64_t group_elems = kScaleGroup * block_size;
  return std::max(kWantedElems / group_elems, std::uint64_t{1}) * group_elems;
}

namespace {

// One tile of a slab: where it begins and what of the statistics is its own.
struct Tile {
  std::uint64_t first, count, first_block;
  GroupSums* groups;
  SlabStats* stats;
};

// Calls step(tile) for each tile of n elements, until one returns false.
template <typename Step>
void ForEachTile(std::uint64_t n, std::uint32_t block_size, TiledStats* statistics, const Step& step) {
  const std::uint64_t tile_elems = TileElems(block_size);
  statistics->tiles.resize(n / tile_elems + (n % tile_elems != 0));
  statistics->groups.resize(GroupCount(BlockCount(n, block_size)));
  std::uint64_t first = 0;
  // A tile begins at a multiple of 256 blocks, so its first group is groups[first_block / 256].
  for (SlabStats& stats : statistics->tiles) {
    const std::uint64_t first_block = first / block_size;
    const std::uint64_t count = std::min(tile_elems, n - first);
    if (!step(Tile{first, count, first_block, &statistics->groups[first_block / kScaleGroup], &stats})) return;
    first += count;
  }
}

}  // namespace

// The format's part of the tensor, sliced off on purpose.
SlabShape SlabShapeOf(const Q4Tensor& tensor, std::uint64_t elems) {
  return {tensor, FloatTypeOf(tensor.dtype), elems};
}

std::uint64_t QuantizeSlab(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                           std::uint8_t* codes, float* scales, const float* decoded, TiledStats* statistics) {
  std::uint64_t first_bad = kAllFinite;
  ForEachTile(shape.elems, shape.block_size, statistics, [&](const Tile& tile) {
    const std::uint8_t* const tile_x = x + tile.first * FloatSize(shape.type);
    // Whole bytes: a tile begins at an even element.
    std::uint8_t* const tile_codes = codes + tile.first / 2;
    float* const tile_scales = scales + tile.first_block;
    const std::uint64_t bad =
        kernels.quantize(shape.type, shape.book(), tile_x, tile.count, shape.block_size, tile_codes, tile_scales);
    // Tiles come in order, so this is the slab's first bad element; the rest is not looked at (numerics Q1.4).
    if (bad != kAllFinite) {
      first_bad = tile.first + bad;
      return false;
    }
    // At once, while x and the codes are in the cache. Errors are those of the scales that a reader will get.
    kernels.error_stats(shape.type, shape.book(), tile_x, tile_codes,
                        decoded != nullptr ? decoded + tile.first_block : tile_scales, tile.count, shape.block_size,
                        tile.groups, tile.stats);
    return true;
  });
  return first_bad;
}

void TakeSlabStats(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x, const std::uint8_t* codes,
                   const float* decoded, TiledStats* statistics) {
  ForEachTile(shape.elems, shape.block_size, statistics, [&](const Tile& tile) {
    kernels.error_stats(shape.type, shape.book(), x + tile.first * FloatSize(shape.type), codes + tile.first / 2,
                        decoded + tile.first_block, tile.count, shape.block_size, tile.groups, tile.stats);
    return true;
  });
}

}  // namespace q4
