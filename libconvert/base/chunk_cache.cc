// A list in order of use, searched from the front: with four entries nothing is faster. The lock covers the list and
// never the reading of a chunk.
#include "libconvert/base/chunk_cache.h"

#include <utility>

#include "formats/base/status.h"

namespace q4 {

absl::StatusOr<ChunkCache::Bytes> ChunkCache::Get(const Q4Reader& reader, std::uint64_t chunk) {
  {
    const std::lock_guard lock(mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->reader != &reader || entry->chunk != chunk) continue;
      // Used now: to the front, without a copy.
      entries_.splice(entries_.begin(), entries_, entry);
      return entry->bytes;
    }
  }
  // Read without the lock: two threads may decode the same chunk once, but none waits for another's.
  Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> read, reader.ReadChunk(chunk));
  auto bytes = std::make_shared<const std::vector<std::uint8_t>>(std::move(read));
  const std::lock_guard lock(mutex_);
  entries_.push_front({&reader, chunk, bytes});
  if (entries_.size() > kEntries) entries_.pop_back();
  return bytes;
}

}  // namespace q4
