// The files of a conversion in parts, all named after the output NAME.q4:
//
//   NAME-00012-of-00163.q4                     a shard, complete
//   .NAME-00012-of-00163.q4.XXXX.partial       one that somebody writes, or has left
//   NAME.q4.parts/00012                        the record of a shard
//   NAME.q4.index.json                         the list: it makes the model
//
// A model of one shard has no list; its shard gets the name NAME.q4 instead, at the same time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/parts/record.h"

namespace q4 {

// Of shard `shard`, from 0. The name is the same whether it is the only one or not.
std::string PartShardPath(const std::string& output, std::size_t shard, std::size_t count);
std::string RecordFolder(const std::string& output);
std::string RecordPath(const std::string& output, std::size_t shard);
// What makes the model, and lies there last: the list, or the one file.
std::string CompletePath(const std::string& output, std::size_t count);

// The folder of the records, open, so that what is done in it is done there whatever comes to its name; nullptr where
// there is none. kOutputNotADirectory for a link or a file, kForeignOwner for another user's: who puts one there would
// have us write and remove files elsewhere.
absl::StatusOr<std::unique_ptr<HeldDirectory>> HoldRecordFolder(FileSystem& fs, const std::string& output);

// Every name that a conversion of `count` shards in parts may write under, but for names with random digits.
std::vector<std::string> PartNames(const std::string& output, std::size_t count);

// kModelComplete where a list or a container has the name.
absl::Status CheckNotComplete(FileSystem& fs, const std::string& output);

// All records that lie in the folder, in order; none where there is no folder. Files of other names are passed over.
struct FoundRecords {
  std::vector<PartRecord> records;
  std::vector<std::string> damaged;  // what is wrong with the others, a line each
};
absl::StatusOr<FoundRecords> ReadRecords(FileSystem& fs, const std::string& output);

// What runs that ended before their time have left, or running ones write: partial files of shards and records.
struct LeftoverPart {
  std::string path;
  std::uint64_t bytes = 0;
};
absl::StatusOr<std::vector<LeftoverPart>> LeftoverParts(FileSystem& fs, const std::string& output);

}  // namespace q4
