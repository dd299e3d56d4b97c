// What the loader reads at once, and how it is read. CutIntoExtents() decides what one read brings, by the index alone;
// ReadExtent() does it, on any thread. Where tensors are to lie in memory was decided before (load.cc); how bytes get
// there is stager.h's. Internal to libconvert/load/.
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

// Parts of a tensor: codes, scale codes and group scales of nested scales; others have fewer (F3.4).
inline constexpr std::size_t kMostParts = 3;

// Where the parts of a tensor are to lie, in the order of Q4Tensor::parts().
struct TensorTarget {
  Q4Model::Location at;
  // Addresses of the LoadMemory; those of parts that the tensor does not have are not looked at.
  std::array<std::uint8_t*, kMostParts> parts{};
};

// Consecutive chunks of one file: a single compressed one, or uncompressed ones. These are to lie in memory at the same
// distances as in the file, so that one read and one copy move them all, with the padding between them.
struct ChunkExtent {
  std::size_t shard = 0;          // index into Q4Model::shards()
  std::uint64_t first_chunk = 0;  // index into that shard's chunks
  std::uint64_t chunk_count = 0;
  std::uint64_t offset = 0;    // in the file
  std::uint64_t bytes = 0;     // from the first stored byte to the last
  std::uint8_t* to = nullptr;  // where the first raw byte is to lie
  std::uint64_t tensors = 0;   // that end in this extent
};

// The chunks of `targets` as extents, in file order. An extent has at most `extent_bytes`, padding included, unless it
// is one chunk. Pure. REQUIRES: `targets` are in file order, by shard and first chunk.
std::vector<ChunkExtent> CutIntoExtents(const Q4Model& model, std::span<const TensorTarget> targets,
                                        std::uint64_t extent_bytes);

// Reads, checks, decompresses and sends the chunks of an extent of `reader`. What it has sent may still be under way:
// Stager::Drain() waits for it. `uncached`: stored chunks that go through slots are read past the page cache.
// Thread-safe if each thread has its own stager; a compressed chunk takes up to about 24 MiB of the stager's scratch
// memory.
//
// Errors: kQ4ChunkDamaged (XXH3), kQ4ChunkReplaced (SHA-256), kQ4ScaleValue or one of zstd_codec.h, with exit code 6,
// file, tensor, part and chunk; those of RandomAccessFile; those of the memory. Bytes of a damaged chunk may have been
// sent by then.
absl::Status ReadExtent(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                        Stager& stager);

}  // namespace q4
