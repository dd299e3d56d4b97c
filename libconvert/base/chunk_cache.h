// Decoded chunks of containers, for workers that each need a share of one: a chunk of scales or of scale codes serves
// several slabs, and each of them would otherwise decompress it again.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"

namespace q4 {

// The last few decoded chunks, for parts of which several slabs take their share. Thread-safe.
class ChunkCache {
 public:
  // Shared, so that an entry may be dropped while a worker still reads it.
  using Bytes = std::shared_ptr<const std::vector<std::uint8_t>>;
  // The raw bytes of chunk number `chunk` of the reader's file, checked against their digest as Q4Reader::ReadChunk
  // does; its errors are returned as they are and not kept. The bytes live as long as somebody holds them, in the cache
  // or not. Readers are told apart by address, so they must outlive the cache's use.
  absl::StatusOr<Bytes> Get(const Q4Reader& reader, std::uint64_t chunk);

 private:
  // Guarded by mutex_, as is the list.
  struct Entry {
    const Q4Reader* reader;
    std::uint64_t chunk;
    Bytes bytes;
  };
  // Few on purpose: work goes through a container in order, so what is needed again is needed soon; a chunk is up to 8
  // MiB.
  static constexpr std::size_t kEntries = 4;  // two nested parts of two neighbouring slabs
  // Never held while a chunk is read or decompressed.
  std::mutex mutex_;
  std::list<Entry> entries_;  // the last used first
};

}  // namespace q4
