// Slabs as a sequence of tiles: where the cuts lie, and the statistics of one tile and of a whole slab.
#include "libconvert/scheme/slab.h"

#include <algorithm>

#include "formats/q4/parts.h"

namespace q4 {

// Formats and kernels never see each other: here they must agree.
static_assert(kQ4BlocksPerGroup == kScaleGroup);

std::uint64_t TileElems(std::uint32_t block_size) {
  // 128 KiB of bf16 and 32 KiB of codes: they fit a core's L2 cache beside each other.
  constexpr std::uint64_t kWantedElems = std::uint64_t{1} << 16;
  const std::uint64_t group_elems = kScaleGroup * block_size;
  return std::max(kWantedElems / group_elems, std::uint64_t{1}) * group_elems;
}

// The format's part of the tensor, sliced off on purpose.
SlabShape SlabShapeOf(const Q4Tensor& tensor, std::uint64_t elems, int effort) {
  return {tensor, FloatTypeOf(tensor.dtype), elems, effort, 0, nullptr};
}

SlabShape PartOf(const SlabShape& slab, std::uint64_t first, std::uint64_t elems) {
  SlabShape part = slab;
  part.first += first;
  part.elems = elems;
  return part;
}

std::vector<Tile> CutIntoTiles(const SlabShape& shape, TiledStats* stats) {
  const std::uint64_t tile_elems = TileElems(shape.block_size);
  std::vector<Tile> tiles(CeilDiv(shape.elems, tile_elems));
  stats->tiles.resize(tiles.size());
  stats->groups.resize(GroupCount(BlockCount(shape.elems, shape.block_size)));
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    // A tile begins at a multiple of 256 blocks: at a whole byte of codes and at a group of its own.
    Tile& tile = tiles[i];
    tile.first = i * tile_elems;
    tile.elems = std::min(tile_elems, shape.elems - tile.first);
    tile.first_block = tile.first / shape.block_size;
    tile.groups = &stats->groups[tile.first_block / kScaleGroup];
    tile.stats = &stats->tiles[i];
  }
  return tiles;
}

void TakeTileStats(const KernelTable& kernels, const SlabShape& shape, const Tile& tile, const std::uint8_t* x,
                   const std::uint8_t* codes, const float* scales) {
  kernels.error_stats(shape.type, shape.book(), x + tile.first * FloatSize(shape.type), codes + tile.first / 2,
                      scales + tile.first_block, tile.elems, shape.block_size, tile.groups, tile.stats);
}

void TakeSlabStats(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x, const std::uint8_t* codes,
                   const float* scales, TiledStats* stats) {
  for (const Tile& tile : CutIntoTiles(shape, stats)) TakeTileStats(kernels, shape, tile, x, codes, scales);
}

}  // namespace q4
