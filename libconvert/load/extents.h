// What the loader reads at once, and how it is read. CutIntoExtents() decides what one read brings, by the index alone;
// ReadExtent() does it, on any thread. Where tensors are to lie in memory was decided before (plan.cc, fill.cc); how
// bytes get there is stager.h's. Internal to libconvert/load/.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/reader.h"
#include "libconvert/load/fill.h"
#include "libconvert/load/slice.h"
#include "libconvert/load/stager.h"

namespace q4 {

// Where what is wanted of a stored part is to lie.
struct PartTarget {
  WantedPart part;
  std::uint8_t* to = nullptr;  // an address of the LoadMemory: of the first byte that is wanted
  // Memory of one region belongs together: bytes between two targets in it may be written. -1: nothing but what is
  // wanted may be.
  std::int64_t region = -1;
  bool mapped = false;  // `to` is a mapping of the file, and has the bytes already; region is -1 then
};

// The parts to be read of a tensor, in the order of Q4Tensor::parts().
struct TensorTarget {
  Q4Model::Location at;
  std::vector<PartTarget> parts;
};

// What one read brings: consecutive chunks of one file, a single compressed one or uncompressed ones. These are to lie
// in memory at the same distances as in the file, so that one read and one copy move them all, with the padding between
// them. Or one chunk that does not lie in memory as it is: `pieces` says what becomes of it.
struct ChunkExtent {
  std::size_t shard = 0;          // index into Q4Model::shards()
  std::uint64_t first_chunk = 0;  // index into that shard's chunks
  std::uint64_t chunk_count = 0;
  std::uint64_t offset = 0;            // in the file
  std::uint64_t bytes = 0;             // from the first stored byte to the last
  std::uint8_t* to = nullptr;          // where the first raw byte is to lie, or the first that is wanted
  std::uint64_t tensors = 0;           // that end in this extent
  std::uint64_t stored_bytes = 0;      // of chunks that no earlier extent has read; without padding
  const PartTarget* pieces = nullptr;  // not null: only its runs are wanted, or scales decoded
  bool mapped = false;                 // as the PartTarget's
};

// The chunks of `targets` as extents, in file order. An extent has at most `extent_bytes`, padding included, unless it
// is one chunk. Chunks of which nothing is wanted are in none. Pure. The extents point into `targets`. REQUIRES:
// `targets` are in file order, by shard and first chunk; each that has parts has elements.
std::vector<ChunkExtent> CutIntoExtents(const Q4Model& model, std::span<const TensorTarget> targets,
                                        std::uint64_t extent_bytes);

// Reads, checks, decompresses and sends the chunks of an extent of `reader`. What it has sent may still be under way:
// Stager::Drain() waits for it. `uncached`: stored chunks that go through slots are read past the page cache.
// Thread-safe if each thread has its own stager; a compressed chunk, or one of which pieces are wanted, takes up to
// about 24 MiB of the stager's scratch memory, and with scales to decode twice that at most.
//
// Errors: kQ4ChunkDamaged (XXH3), kQ4ChunkReplaced (SHA-256), kQ4ScaleValue or one of zstd_codec.h, with exit code 6,
// file, tensor, part and chunk; those of RandomAccessFile; those of the memory. Bytes of a damaged chunk may have been
// sent by then.
absl::Status ReadExtent(const Q4Reader& reader, const ChunkExtent& extent, LoadCheck check, bool uncached,
                        Stager& stager);

}  // namespace q4
