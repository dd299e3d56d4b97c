// What a repacked container says of its making: what the first one said, and what was done to it since. Internal to
// libconvert/repack/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"
#include "formats/q4/chunk.h"
#include "formats/q4/container.h"
#include "formats/q4/reader.h"

namespace q4 {

// docs/format.md F8.4. Members of the first document stay but for these: `options` say how the chunks are packed now,
// `parent` which container they were taken from, `left_out` what of it is missing, other or new, and `files` of a shard
// those that the parent's shards list which its tensors come from.
class RepackProvenance {
 public:
  // Of the container that is repacked. Errors: those of ReadProvenance().
  static absl::StatusOr<RepackProvenance> Of(const Q4Model& model);

  // What the document records; nullopt where it records no options.
  std::optional<Q4Compression> compression() const { return compression_; }
  std::optional<std::uint64_t> shard_bytes() const { return shard_bytes_; }

  void SetPacking(const Q4Compression& compression, std::uint64_t shard_bytes);
  void Replaced(const std::string& file);
  void Added(const std::string& file);
  void Dropped(const std::string& file);
  // `tensors` of the container are not taken; `parts` of the model were not there.
  void LeftOut(std::uint64_t tensors, std::uint64_t parts);

  // What is said of single tensors (F8.3), of these alone: all that are taken, by name. `is_part`: others are not, so
  // that nothing is said of how all lay in files.
  void KeepTensors(const std::map<std::string_view, const Q4Tensor*>& taken, bool is_part);

  // The document of a shard whose tensors come from these shards of the container.
  std::string Document(const std::set<std::size_t>& from) const;

 private:
  // Drops what repacking noted of the file before, and returns its reason, or "".
  std::string Forget(const std::string& name);
  void Note(const std::string& name, std::string_view reason);
  void AddTo(std::string_view what, std::string_view reason, std::uint64_t count);

  Json document_;            // without left_out and source files
  std::vector<Json> files_;  // of each shard of the container
  std::vector<Json> left_out_;
  std::optional<Q4Compression> compression_;
  std::optional<std::uint64_t> shard_bytes_;
};

}  // namespace q4
