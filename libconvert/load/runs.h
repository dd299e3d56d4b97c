// What the loader reads at once, and how it is read. Internal to libconvert/load*.cc.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/reader.h"
#include "libconvert/load/lane.h"
#include "libconvert/load/load.h"

namespace q4 {

inline constexpr std::size_t kMostParts = 3;  // of a tensor

// Where the parts of a tensor shall lie, in the order of Q4Tensor::parts.
struct TensorTarget {
  Q4Model::Location at;
  std::array<std::uint8_t*, kMostParts> parts{};
};

// Consecutive chunks of one file: a single compressed one, or stored ones that shall lie in memory as far apart as they
// lie in the file, so that one read and one copy move them with the padding between them.
struct ChunkRun {
  std::size_t shard = 0;
  std::uint64_t first_chunk = 0;
  std::uint64_t chunk_count = 0;
  std::uint64_t offset = 0;    // in the file
  std::uint64_t bytes = 0;     // from the first stored byte to the last
  std::uint8_t* to = nullptr;  // where the first raw byte shall lie
  std::uint64_t tensors = 0;   // that end in this run
};

// The chunks of `targets`, which are in file order, as runs in that order. A run has at most `run_bytes`, unless it is
// one chunk.
std::vector<ChunkRun> CutIntoRuns(const Q4Model& model, std::span<const TensorTarget> targets, std::uint64_t run_bytes);

// Reads, checks, decompresses and sends the chunks of a run. What it has sent may still be under way. `uncached`:
// stored chunks that go through slots are read past the page cache.
absl::Status ReadRun(const Q4Reader& reader, const ChunkRun& run, LoadCheck check, bool uncached, LoadLane& lane);

}  // namespace q4
