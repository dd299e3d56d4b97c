// How a source tensor is cut into slabs, what is read and worked on at once. By position alone, never by thread, device
// or memory: that is one reason why none of these can change a byte of the output.
#pragma once

#include <algorithm>
#include <cstdint>

#include "formats/q4/container.h"
#include "formats/tensor/tensor.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// Slabs 0 .. slabs() - 1 of one tensor, in row-major order. All counts are elements.
struct SlabCut {
  std::uint64_t elems = 0;       // of the tensor
  std::uint64_t slab_elems = 0;  // of every slab but the last; not 0

  // 0 for a tensor without elements.
  std::uint64_t slabs() const { return elems / slab_elems + (elems % slab_elems != 0); }
  // The slab's first element, and how many it has.
  std::uint64_t first(std::uint64_t slab) const { return slab * slab_elems; }
  std::uint64_t size(std::uint64_t slab) const { return std::min(slab_elems, elems - first(slab)); }
  // The size of the largest slab: what memory is planned for.
  std::uint64_t largest() const { return std::min(slab_elems, elems); }
};

// To be quantized: every slab becomes one chunk of codes, and begins at a multiple of 256 blocks of any size, as
// kernels and sums want (numerics Q7.5).
inline SlabCut CutToQuantize(std::uint64_t elems) { return {elems, kSlabElems}; }

// To be kept: every slab becomes a whole number of data chunks, whichever type it is stored as. Types that are never
// converted (integers and others) are cut at one chunk, whatever their size.
inline SlabCut CutToKeep(const SourceTensor& source) {
  return {source.elems, IsQuantizable(source.dtype) ? kSlabElems : kQ4ChunkBytes / ItemSize(source.dtype)};
}

}  // namespace q4
