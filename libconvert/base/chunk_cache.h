// Decoded chunks of containers, for workers that each need a share of one.
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
  using Bytes = std::shared_ptr<const std::vector<std::uint8_t>>;
  absl::StatusOr<Bytes> Get(const Q4Reader& reader, std::uint64_t chunk);

 private:
  struct Entry {
    const Q4Reader* reader;
    std::uint64_t chunk;
    Bytes bytes;
  };
  static constexpr std::size_t kEntries = 4;  // two nested parts of two neighbouring slabs
  std::mutex mutex_;
  std::list<Entry> entries_;  // the last used first
};

}  // namespace q4
