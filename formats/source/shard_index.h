// The index of a sharded checkpoint, model.safetensors.index.json, and the checkpoint that it describes.
//   {"metadata": {"total_size": 719173}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors", ...}}
// The index is parsed without looking at any shard; the shards are opened and compared with it afterwards. It is not
// trusted: it may name only files beside it, and what it says of tensors is checked against the shards.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/base/strict_json.h"
#include "formats/source/checkpoint.h"
#include "formats/source/source_remarks.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// A parsed index. Every shard is named by at least one tensor.
struct ShardIndex {
  std::vector<std::string> shards;                // plain file names, bytewise sorted
  std::map<std::string, std::uint32_t> shard_of;  // tensor name -> index into shards
  std::optional<std::uint64_t> total_size;        // metadata.total_size, when it is an unsigned integer
  std::optional<IndexTotals> totals;              // all of metadata, when it is these and nothing else
  // What is unusual about it and changes nothing: "metadata is null". Phrases for people, in document order.
  std::vector<std::string> oddities;
};

// Pure but for reading `source` to its end. Read as Python reads it (json_parser.h), for the loaders do. `file` is
// named in errors (exit code 3): kIndexForm, kIndexShardName, kTensorName, kTooManyTensors, kTooManyShards, and those
// of JSON text, with kJsonDuplicateKey for a tensor that is listed twice and for a second weight_map. All other members
// may be anything and may be absent. Whether the shards exist is not asked.
absl::StatusOr<ShardIndex> ParseShardIndex(JsonSource& source, std::string_view file);

// The files of a checkpoint, of one format, and what they hold: what OpenCheckpoint() makes a Checkpoint of.
struct CheckpointPayload {
  std::string format;                     // SourceFormat::name
  std::vector<CheckpointFile> files;      // as ShardIndex::shards
  std::vector<SourceTensor> tensors;      // by file, then by offset
  std::vector<Note> notes;                // what is odd, each said once
  SourceRemarks remarks;                  // what the files say beside their tensors
  std::optional<CompanionFile> metadata;  // SourceHeader::metadata, of files in parts that of the first
  std::optional<IndexTotals> totals;      // ShardIndex::totals
  std::optional<Foreign> foreign;         // SourceHeader::foreign
};

// Opens every shard, in the directory of `index_path`, and holds index and shards against each other: each tensor is
// where the index says and nowhere else. A tensor that a shard holds and the index does not list is taken, for no
// loader goes by the list, and a total_size that is wrong is not believed: both are notes. The first shard says of
// which format they all are. `links` is about the shards.
//
// Errors: kShardMissing, kNotAShard, kTooManyTensors, and whatever is wrong with a shard, in the order of the shards;
// then kDuplicateTensor and kIndexMismatch; I/O. All shards stay open, which takes one file descriptor each.
absl::StatusOr<CheckpointPayload> OpenShards(FileSystem& fs, const std::string& index_path, const ShardIndex& index,
                                             SymbolicLinks links);

// Whether `name` is one component of a path and nothing else: not empty, "." or "..", without slash, backslash, colon
// or NUL.
bool IsPlainFileName(std::string_view name);

}  // namespace q4
