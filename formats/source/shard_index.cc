// Three steps: parse the index (IndexHandler), open all shards, compare (CompareWithIndex()).
//
// Shards are numbered by name, not by their first mention: the number is the order in which they are read and listed in
// the provenance, and must not depend on how a tool has ordered weight_map. Everything that can be checked without
// opening a shard is checked before the first one is opened.
#include "formats/source/shard_index.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/counted.h"
#include "formats/base/json_parser.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/names/hub_cache.h"
#include "formats/safetensors/sniff.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/source_formats.h"

namespace q4 {
namespace {

// Collects weight_map and metadata.total_size; whatever else the index holds is free-form and passed over. `depth_`
// counts the open containers and `member_` says in which member of the outermost object the parser is. The events are
// those of Python's json, so a key may come twice.
class IndexHandler final : public JsonHandler {
 public:
  explicit IndexHandler(std::string_view file) : file_(file) {}

  // The index, with shards in the order of their names. While parsing they are numbered as they come; here they are
  // sorted, and each tensor gets the new number of its shard.
  absl::StatusOr<ShardIndex> TakeIndex() {
    if (!has_weight_map_)
      return Fail(kIndexForm, file_, {}, "weight_map is missing; name the model's folder, or its weights");
    std::vector<std::uint32_t> order(index_.shards.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [this](std::uint32_t a, std::uint32_t b) { return index_.shards[a] < index_.shards[b]; });
    std::vector<std::uint32_t> new_number(order.size());
    std::vector<std::string> sorted;
    for (const std::uint32_t old_number : order) {
      new_number[old_number] = static_cast<std::uint32_t>(sorted.size());
      sorted.push_back(std::move(index_.shards[old_number]));
    }
    index_.shards = std::move(sorted);
    for (auto& entry : index_.shard_of) entry.second = new_number[entry.second];
    if (!has_metadata_) index_.oddities.push_back("it has no metadata");
    if (has_metadata_ && metadata_is_object_ && only_totals_) {
      index_.totals = IndexTotals{index_.total_size, total_parameters_};
    }
    return std::move(index_);
  }

  absl::Status OnStart(JsonContainer container) override {
    const std::string_view kind = container == JsonContainer::kObject ? "an object" : "an array";
    const bool in_map = depth_ >= kInDocument && member_ == Member::kWeightMap;
    // The document and weight_map are objects, and nothing is deeper in the latter.
    if ((depth_ < kInDocument || in_map) && (depth_ >= kInMember || container != JsonContainer::kObject)) {
      return Unexpected(kind);
    }
    if (depth_ == kInDocument && member_ == Member::kMetadata)
      metadata_is_object_ = container == JsonContainer::kObject;
    NoteMetadata(kind, metadata_is_object_);
    only_totals_ = only_totals_ && !(depth_ >= kInMember && member_ == Member::kMetadata);
    ++depth_;
    return absl::OkStatus();
  }

  absl::Status OnKey(std::string key) override {
    // Kept at any depth, for a message or as the name of the tensor whose shard comes next.
    key_ = std::move(key);
    if (depth_ != kInDocument) return absl::OkStatus();
    member_ = Member::kOther;
    if (key_ == "weight_map") {
      // Which of two lists counts would decide what is read.
      if (std::exchange(has_weight_map_, true)) return Fail(kJsonDuplicateKey, file_, {}, "'weight_map'");
      member_ = Member::kWeightMap;
    } else if (key_ == "metadata") {
      if (std::exchange(has_metadata_, true)) index_.oddities.push_back("metadata is given twice");
      member_ = Member::kMetadata;
      index_.total_size.reset();
      total_parameters_.reset();
      metadata_is_object_ = false;
      only_totals_ = true;  // of two the last counts
    }
    return absl::OkStatus();
  }

  absl::Status OnScalar(JsonScalar scalar) override {
    if (depth_ < kInDocument) return Unexpected(JsonKindName(scalar.kind));
    if (member_ == Member::kWeightMap) {
      if (depth_ < kInMember || scalar.kind != JsonScalar::Kind::kString) return Unexpected(JsonKindName(scalar.kind));
      return AddTensor(scalar.text);
    }
    const bool is_total = depth_ == kInMember && metadata_is_object_ && key_ == "total_size";
    if (is_total && member_ == Member::kMetadata && scalar.kind == JsonScalar::Kind::kUnsigned) {
      index_.total_size = scalar.unsigned_value;
    } else {
      NoteMetadata(JsonKindName(scalar.kind), is_total);
      const bool is_count = key_ == "total_parameters" && scalar.kind == JsonScalar::Kind::kUnsigned;
      if (member_ == Member::kMetadata && is_count) total_parameters_ = scalar.unsigned_value;
      only_totals_ = only_totals_ && (member_ != Member::kMetadata || is_count);
    }
    return absl::OkStatus();
  }

  absl::Status OnEnd(JsonContainer) override {
    --depth_;
    return absl::OkStatus();
  }

 private:
  enum class Member { kOther, kWeightMap, kMetadata };
  static constexpr int kInDocument = 1;  // open containers while in the outermost object
  static constexpr int kInMember = 2;    // ... while in weight_map or metadata

  // Names the last key, which is the place of the value; before the first one there is none.
  absl::Status Unexpected(std::string_view kind) const {
    return Fail(kIndexForm, file_, depth_ == 0 ? std::string_view() : std::string_view(key_),
                "got " + std::string(kind));
  }

  // For metadata, or total_size in it, of a kind that no loader makes use of. A total_size deeper inside is somebody
  // else's.
  void NoteMetadata(std::string_view kind, bool in_object) {
    if (member_ != Member::kMetadata) return;
    if (depth_ == kInDocument && !in_object) index_.oddities.push_back("metadata is " + std::string(kind));
    if (depth_ == kInMember && in_object && key_ == "total_size") {
      index_.oddities.push_back("metadata.total_size is " + std::string(kind));
    }
  }

  // One pair of weight_map, whose key is in `key_`. The same rules for the name as in a safetensors file, so that each
  // name in the index can be one of a tensor.
  absl::Status AddTensor(const std::string& shard) {
    if (key_.empty() || key_.size() > limits::kTensorNameBytes || key_.find('\0') != std::string::npos) {
      return Fail(kTensorName, file_, key_, "got " + std::to_string(key_.size()) + " bytes");
    }
    if (!IsPlainFileName(shard)) return Fail(kIndexShardName, file_, key_, "got '" + shard + "'");
    if (index_.shard_of.size() == limits::kTensorsPerCheckpoint) {
      return Fail(kTooManyTensors, file_, {}, "at most " + std::to_string(limits::kTensorsPerCheckpoint));
    }
    // One lookup for old and new: an index names a shard hundreds of times.
    const auto [at, is_new] = numbers_.try_emplace(shard, static_cast<std::uint32_t>(index_.shards.size()));
    if (is_new) {
      if (index_.shards.size() == limits::kShards) {
        return Fail(kTooManyShards, file_, {}, "at most " + std::to_string(limits::kShards));
      }
      index_.shards.push_back(shard);
    }
    // Loaders disagree on which of two places counts.
    const auto [entry, added] = index_.shard_of.try_emplace(std::move(key_), at->second);
    return added ? absl::OkStatus() : Fail(kJsonDuplicateKey, file_, {}, "'" + entry->first + "'");
  }

  std::string_view file_;
  ShardIndex index_;
  std::map<std::string, std::uint32_t> numbers_;  // shard name -> index into index_.shards
  int depth_ = 0;
  Member member_ = Member::kOther;
  bool has_weight_map_ = false, has_metadata_ = false;
  bool metadata_is_object_ = false, only_totals_ = false;
  std::optional<std::uint64_t> total_parameters_;
  std::string key_;
};

// The bytewise first tensor that needs each shard, for messages.
std::vector<std::string_view> FirstTensors(const ShardIndex& index) {
  std::vector<std::string_view> first(index.shards.size());
  for (const auto& [name, shard] : index.shard_of) {
    if (first[shard].empty() || name < first[shard]) first[shard] = name;
  }
  return first;
}

// A shard that is open, and what its first bytes say it is.
struct OpenedShard {
  std::shared_ptr<RandomAccessFile> file;
  FileKind kind = FileKind::kUnknown;
};

// One that is missing is mostly one of many: how many tells an incomplete download from a file that was renamed.
absl::Status ShardMissing(FileSystem& fs, const std::string& path, const std::string& index_path,
                          const ShardIndex& index, std::string_view needed_by) {
  std::size_t missing = 0;
  for (const std::string& shard : index.shards) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(DirectoryOf(index_path), shard)));
    missing += !info.exists;
  }
  return Fail(kShardMissing, index_path, BaseNameOf(path),
              "needed by tensor '" + std::string(needed_by) + "'; " + std::to_string(missing) + " of " +
                  std::to_string(index.shards.size()) + " shards are not there, so complete the download");
}

// Opens one shard. `needed_by`: a tensor that the index places in it, for the message. A file that is absent is told
// apart from one that cannot be opened, since an incomplete download is a common fault of sharded checkpoints.
absl::StatusOr<OpenedShard> OpenShard(FileSystem& fs, const std::string& path, const std::string& index_path,
                                      const ShardIndex& index, std::string_view needed_by, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  // Of a link that may be followed its target is missing.
  if (!info.exists && info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs, path, links));
  if (!info.exists) return ShardMissing(fs, path, index_path, index, needed_by);
  Q4_ASSIGN_OR_RETURN(std::shared_ptr<RandomAccessFile> file, fs.OpenForRead(path, links));
  // An index that names itself or another index.
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), kSniffBytes)));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  const FileKind kind = SniffKind(head);
  if (kind == FileKind::kJson) return Fail(kNotAShard, path, {}, "looks like a JSON document");
  return OpenedShard{std::move(file), kind};
}

// Every tensor in the shard that the index names, and in no other. First names that occur twice, as the rest supposes
// that names are unique; then what was found but not listed or listed elsewhere; then what was listed but not found.
// The lists are sorted by name, so that the message does not depend on the order in the files.
// What is not listed is taken with a note, as every loader takes it: they read the shards, not the index.
absl::Status CompareWithIndex(const ShardIndex& index, const std::string& index_path, CheckpointPayload& payload) {
  std::vector<const SourceTensor*> by_name;
  by_name.reserve(payload.tensors.size());
  for (const SourceTensor& tensor : payload.tensors) by_name.push_back(&tensor);
  std::sort(by_name.begin(), by_name.end(), [](const SourceTensor* a, const SourceTensor* b) {
    return a->name != b->name ? a->name < b->name : a->place().file < b->place().file;
  });
  const auto shard = [&](std::uint32_t file) { return "shard " + index.shards[file]; };
  const auto twin = std::adjacent_find(by_name.begin(), by_name.end(),
                                       [](const SourceTensor* x, const SourceTensor* y) { return x->name == y->name; });
  if (twin != by_name.end()) {
    return Fail(kDuplicateTensor, index_path, (*twin)->name,
                "in " + shard((*twin)->place().file) + " and " + shard(twin[1]->place().file));
  }
  std::vector<const SourceTensor*> unlisted;
  for (const SourceTensor* tensor : by_name) {
    const auto listed = index.shard_of.find(tensor->name);
    if (listed == index.shard_of.end()) {
      unlisted.push_back(tensor);
      continue;
    }
    if (listed->second != tensor->place().file) {
      return Fail(kIndexMismatch, index_path, tensor->name,
                  GotExpected(shard(tensor->place().file), shard(listed->second)));
    }
  }
  // What is listed and was not found: the first by name, for a stable message. Both lists are sorted.
  auto found = by_name.begin();
  for (const auto& [name, number] : index.shard_of) {
    while (found != by_name.end() && (*found)->name < name) ++found;
    if (found == by_name.end() || (*found)->name != name) {
      return Fail(kIndexMismatch, index_path, name, GotExpected("no shard", shard(number)));
    }
  }
  if (!unlisted.empty()) {
    const SourceTensor& first = *unlisted.front();
    payload.notes.push_back(
        {false, Printable(BaseNameOf(index_path)) + ": " +
                    Counted(unlisted.size(), "tensor of its shards is", "tensors of its shards are") +
                    " not listed in it, and taken as loaders take them: " + Printable(first.name) + " in " +
                    Printable(index.shards[first.place().file]) + (unlisted.size() > 1 ? ", ..." : "")});
  }
  return absl::OkStatus();
}

}  // namespace

bool IsPlainFileName(std::string_view name) {
  using namespace std::string_view_literals;
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\:\0"sv) == std::string_view::npos;
}

absl::StatusOr<ShardIndex> ParseShardIndex(JsonSource& source, std::string_view file) {
  IndexHandler handler(file);
  Q4_RETURN_IF_ERROR(ParsePythonJson(
      source, file, {.max_depth = limits::kModelJsonDepth, .max_token_bytes = limits::kConfigJsonBytes}, handler));
  return handler.TakeIndex();
}

absl::StatusOr<CheckpointPayload> OpenShards(FileSystem& fs, const std::string& index_path, const ShardIndex& index,
                                             SymbolicLinks links) {
  // Computed for all shards at once: a search for each would be shards times tensors.
  const std::vector<std::string_view> needed_by = FirstTensors(index);
  CheckpointPayload payload;
  const SourceFormat* format = &SourceFormatOf(FileKind::kUnknown);  // of an index that names no shard
  std::uint64_t total_bytes = 0;
  for (std::uint32_t i = 0; i < index.shards.size(); ++i) {
    const std::string path = JoinPath(DirectoryOf(index_path), index.shards[i]);
    Q4_ASSIGN_OR_RETURN(OpenedShard shard, OpenShard(fs, path, index_path, index, needed_by[i], links));
    // A later shard of another format is then refused by the reader of the first: a checkpoint has one.
    if (i == 0) format = &SourceFormatOf(shard.kind);
    if (format->has_parts) {
      return Fail(kNotAShard, path, {}, "files of " + std::string(format->name) + " name their parts themselves");
    }
    Q4_ASSIGN_OR_RETURN(SourceHeader header, format->read_header(*shard.file));
    std::vector<SourceTensor>& tensors = header.tensors;
    payload.remarks.Add(header.remarks);
    // The index lists no more than the limit, but a shard may hold what the index does not list.
    if (payload.tensors.size() + tensors.size() > limits::kTensorsPerCheckpoint) {
      return Fail(kTooManyTensors, index_path, {}, "at most " + std::to_string(limits::kTensorsPerCheckpoint));
    }
    payload.files.push_back({index.shards[i], std::move(shard.file), std::move(header.checksums)});
    for (SourceTensor& tensor : tensors) {
      // A reader sees one file and says 0.
      for (SourceExtent& extent : tensor.extents) extent.file = i;
      if (!CheckedAdd(total_bytes, tensor.bytes, &total_bytes)) return Fail(kTensorTooLarge, index_path, tensor.name);
      payload.tensors.push_back(std::move(tensor));
    }
  }
  payload.format = format->name;
  payload.totals = index.totals;
  std::string odd;
  for (const std::string& oddity : index.oddities) odd += (odd.empty() ? "" : "; ") + oddity;
  // No loader refuses a wrong sum: tools that merge, prune or convert leave the old one.
  if (index.total_size && *index.total_size != total_bytes) {
    odd += (odd.empty() ? "metadata.total_size is " : "; metadata.total_size is ") + std::to_string(*index.total_size) +
           ", the tensors have " + std::to_string(total_bytes) + " bytes";
  }
  if (!odd.empty()) payload.notes.push_back({false, Printable(BaseNameOf(index_path)) + ": " + odd});
  Q4_RETURN_IF_ERROR(CompareWithIndex(index, index_path, payload));
  return payload;
}

}  // namespace q4
