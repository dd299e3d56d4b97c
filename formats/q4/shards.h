// The list of the shards of a model, NAME.q4.index.json (docs/format.md section 10).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"

namespace q4 {

// Whether a file that begins with `head`, its first kQ4ShardListHeadBytes or all if it is shorter, is a list of shards
// of this or a later version: the first member tells it from other JSON files, with any white space that JSON allows.
bool IsQ4ShardListHead(std::string_view head);
inline constexpr std::size_t kQ4ShardListHeadBytes = 4096;

struct Q4ShardEntry {
  std::string name;  // plain file name, in the folder of the list
  std::uint64_t bytes = 0;
  Sha256 root{};
};

struct Q4ShardList {
  std::vector<Q4ShardEntry> parts;                             // shard 0, 1, ...
  std::vector<std::pair<std::string, std::uint32_t>> tensors;  // name and shard; encoding sorts by name
};

// SHA-256 over the shard roots in order; for a single shard its own root (F7.4).
Sha256 Q4ModelRoot(const std::vector<Sha256>& shard_roots);

// The canonical document: the same list gives the same bytes.
std::string EncodeQ4ShardList(const Q4ShardList& list);

// Checks everything that the list can tell alone. `path` is for messages. Errors have exit code 3.
absl::StatusOr<Q4ShardList> ParseQ4ShardList(std::string_view text, std::string_view path);

// "NAME-00001-of-00003.q4" for part 0 of 3 of "NAME.q4"; "NAME.q4.index.json" for the list. `output` may have a folder.
std::string Q4ShardName(const std::string& output, std::uint32_t shard, std::uint32_t count);
std::string Q4ShardIndexName(const std::string& output);

}  // namespace q4
