// The list of the shards of a model, NAME.q4.index.json (docs/format.md section 10): its text both ways, and the names
// of the files. Pure; model.cc opens the shards and compares them with the list.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/strict_json.h"
#include "formats/q4/container.h"

namespace q4 {

// Whether a file that begins with `head`, its first kQ4ShardListHeadBytes or all if it is shorter, is a list of shards
// of this or a later version: the first member tells it from other JSON files, with any white space that JSON allows.
bool IsQ4ShardListHead(std::string_view head);
inline constexpr std::size_t kQ4ShardListHeadBytes = 4096;

// What the list says about one shard.
struct Q4ShardEntry {
  std::string name;         // plain file name, in the folder of the list
  std::uint64_t bytes = 0;  // size of the file
  Sha256 root{};            // its Q4Seal::root
};

// The whole list. The document's own root is not kept: it follows from those of the shards.
struct Q4ShardList {
  // Shard 0, 1, ...; named as in the JSON.
  std::vector<Q4ShardEntry> parts;
  // Name of each tensor and number of its shard. Sorted by name when parsed; encoding sorts.
  std::vector<std::pair<std::string, std::uint32_t>> tensors;
};

// SHA-256 over the shard roots in order; for a single shard its own root (F7.4). `shard_roots` is not empty.
Sha256 Q4ModelRoot(const std::vector<Sha256>& shard_roots);

// What people write for a root: 64 lower-case hex digits, with or without "sha256:" before them; nullopt for any other
// text.
std::optional<Sha256> ParseQ4Root(std::string_view text);

// The canonical document: the same list gives the same bytes, whatever the order of its tensors. REQUIRES: names are
// UTF-8 and unique, each shard number is one of the shards.
std::string EncodeQ4ShardList(const Q4ShardList& list);

// Checks everything that the list can tell alone: members and their types, names that stay in the folder, shard
// numbers, the root over the roots, limits. `path` is for messages. Errors have exit code 3: kQ4ShardList, and those of
// ParseStrictJson() and of `source`.
absl::StatusOr<Q4ShardList> ParseQ4ShardList(JsonSource& source, std::string_view path);
absl::StatusOr<Q4ShardList> ParseQ4ShardList(std::string_view text, std::string_view path);

// "NAME-00001-of-00003.q4" for shard 0 of 3 of "NAME.q4"; "NAME.q4.index.json" for the list. `output` may have a
// folder.
std::string Q4ShardName(const std::string& output, std::uint32_t shard, std::uint32_t count);
std::string Q4ShardIndexName(const std::string& output);

}  // namespace q4
