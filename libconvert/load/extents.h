// What the loader reads at once, and how it is read.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/reader.h"
#include "libconvert/load/load.h"
#include "libconvert/load/stager.h"

namespace q4 {

inline constexpr std::size_t kMostParts = 3;  // of a tensor

// Where the parts of a tensor are to lie, in the order of Q4Tensor::parts().
struct TensorTarget {
  Q4Model::Location at;
  std::array<std::uint8_t*, kMostParts> parts{};
};

// Consecutive chunks of one file: a single compressed one, or uncompressed ones. These are to lie in memory at the same
// distances as in the file, so that one read and one copy move them all, with the padding between them.
struct ChunkExtent {
  std::size_t shard = 0;
  std::uint64_t first_chunk = 0;
  std::uint64_t chunk_count = 0;
  std::uint64_t offset = 0;    // in the file
  std::uint64_t bytes = 0;     // from the first stored byte to the last
  std::uint8_t* to = nullptr;  // where the first raw byte is to lie
  std::uint64_t tensors = 0;   // that end in this extent
};

// The chunks of `targets`, which are in file order, as extents in that order. An extent has at most `extent_bytes`,
// unless it is one chunk.
std::vector<ChunkExtent> CutIntoExtents(const Q4Model& model, std::span<const TensorTarget> targets,
                                        std::uint64_t extent_bytes);

// Reads, checks, decompresses and sends the chunks of an extent. What it has sent may still be under way. `uncached`:
// stored chunks that go through slots are read past the page cache.
absl::Status ReadExtent(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                        Stager& stager);

}  // namespace q4
