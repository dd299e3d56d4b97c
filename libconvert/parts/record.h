// The record of a shard that one part has written: all that a merge must know of it, so that the shards themselves may
// be elsewhere by then. It lies in the folder NAME.q4.parts under the number that the shard's name has.
//
//   a line of text   the version of this form
//   a line of JSON   what the shard was made of (below)
//   the shard's header, index and footer, as they stand in it
//   SHA-256 of all before
//
// Records are ours and short-lived: a merge removes them. Still what they say is checked as if it came from elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// A source file as a part saw it when it began.
struct SeenFile {
  std::uint64_t size = 0;
  // When it was modified, or a network's tag: the beginning of FileVersion::tag, which is the same on every machine.
  std::string time;
  // XXH3 of a few pieces of its content, in hexadecimal: tells a fine-tune of equal shape and time from its base.
  std::string print;
  bool operator==(const SeenFile&) const = default;
};

// All of Checkpoint::files(). Reads 16 KiB of each.
absl::StatusOr<std::vector<SeenFile>> SeenFiles(const Checkpoint& checkpoint);

struct PartRecord {
  std::uint64_t parts = 1;             // N of the run that wrote it
  std::vector<std::uint64_t> weights;  // of each shard of the model: what AssignShards() takes
  std::vector<std::uint32_t> sources;  // which of `files` the shard was made from
  std::vector<SeenFile> files;         // all of the source
  // The shard as far as it goes without payload. Its path is that of the record.
  std::unique_ptr<Q4Reader> shard;
};

// The text of a record. `shard`: the container as it was written; its header, index and footer are read. Errors: of
// reading.
absl::StatusOr<std::string> EncodeRecord(const PartRecord& record, const Q4Reader& shard);

// kPartRecord where it is damaged or of another version; kForeignOwner where another user made it; I/O errors, also
// where there is none.
absl::StatusOr<PartRecord> ReadRecord(FileSystem& fs, const std::string& path);

}  // namespace q4
