// One slab of a tensor through the kernels: the step that all backends share and that work is cut into.
//
// A slab goes through in tiles: each is quantized and judged while its elements are still in a core's cache. Slabs and
// tiles are cut at multiples of 256 blocks, so every tile has whole SUM256 groups of its own and the statistics do not
// depend on the cut (numerics Q7.5). The CPU engine calls these functions; the CUDA engine gives whole slabs to its
// kernels and yields the same TiledStats.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/q4/container.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/column_weights.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {

// Elements per slab: one chunk of codes, and one or two chunks of data of a tensor that is kept.
inline constexpr std::uint64_t kSlabElems = kQ4ChunkElems;

// Elements of a tile, what the kernels are given at once: it stays in the cache between quantizing and taking
// statistics. A whole number of SUM256 groups, several where blocks are small, because each call searches its maxima
// anew. 2^16 elements or, where a group is larger, one group: at most 2^20. `block_size` as in IsBlockSize.
std::uint64_t TileElems(std::uint32_t block_size);

// Statistics of a slab, tile by tile, ready to be added in order. Adding up: model/stats.h.
struct TiledStats {
  // Indices in each count from the tile's first element or block, not the slab's.
  std::vector<SlabStats> tiles;
  std::vector<GroupSums> groups;  // of all tiles, one after the other
};

// What the kernels need to know of a slab.
struct SlabShape : QuantFormat {
  // Of the source's elements, and how many of them the slab has.
  FloatType type = FloatType::kF32;
  std::uint64_t elems = 0;
  // How hard an encoder that searches does it.
  int effort = kDefaultEffort;
  // Where the slab begins in its tensor, in elements: with a group of 256 blocks.
  std::uint64_t first = 0;
  // What errors count, of an encoder that weighs them; nullptr for others. Outlives the call.
  const ColumnWeights* weights = nullptr;
  // What the kernels call the scheme.
  CodeBook book() const { return CodeBookOf(*this); }
};
// REQUIRES: the tensor is to be quantized.
SlabShape SlabShapeOf(const Q4Tensor& tensor, std::uint64_t elems, int effort = kDefaultEffort);
// `elems` elements of a slab, from its element `first` on, which begins a group of 256 blocks.
SlabShape PartOf(const SlabShape& slab, std::uint64_t first, std::uint64_t elems);

// One tile of a slab: where it begins in the slab, and which of the slab's statistics are its own.
struct Tile {
  std::uint64_t first = 0, elems = 0, first_block = 0;
  GroupSums* groups = nullptr;
  SlabStats* stats = nullptr;
};

// All tiles of a slab, in order. Makes room in `stats` for what each of them will add.
std::vector<Tile> CutIntoTiles(const SlabShape& shape, TiledStats* stats);

// The error statistics of one tile. `x`, `codes` and `scales` begin with the slab; the scales are those that a reader
// will decode. Runs on the calling thread, which must have the canonical float environment.
void TakeTileStats(const KernelTable& kernels, const SlabShape& shape, const Tile& tile, const std::uint8_t* x,
                   const std::uint8_t* codes, const float* scales);

// Those of a whole slab, whose codes were chosen before: with nested scales, whose decoded values are known only after
// the tensor's last slab was quantized (numerics Q5.1).
void TakeSlabStats(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x, const std::uint8_t* codes,
                   const float* scales, TiledStats* stats);

}  // namespace q4
