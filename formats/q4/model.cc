// Every shard is opened and held against the list before the model is given out, so that whatever a caller finds in it
// is covered by the model's root.
#include <algorithm>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/strict_json.h"
#include "formats/q4/layout.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"

namespace q4 {
namespace {

// A list of shards is JSON text; everything else is left to Q4Reader, which says what is wrong with it. One byte
// decides: no container begins with white space or a brace.
absl::StatusOr<bool> IsShardList(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path));
  if (file->size() == 0) return false;
  std::uint8_t first = 0;
  Q4_RETURN_IF_ERROR(file->ReadAt(0, {&first, 1}));
  return first == '{' || first == ' ' || first == '\t' || first == '\r' || first == '\n';
}

// Compares a shard with what the list says. Size and root first, because they tell another file from a file in the
// wrong place.
absl::Status CheckShard(const Q4Reader& shard, const Q4ShardEntry& entry, std::size_t number, std::size_t count) {
  if (shard.seal().file_bytes != entry.bytes) {
    return Fail(kQ4ShardDiffers, shard.path(), "size",
                GotExpected(fmt::to_string(shard.seal().file_bytes), fmt::to_string(entry.bytes)));
  }
  if (shard.seal().root != entry.root) {
    return Fail(kQ4ShardDiffers, shard.path(), "root", GotExpected(HexOf(shard.seal().root), HexOf(entry.root)));
  }
  if (shard.index().shard != number || shard.index().shard_count != count) {
    return Fail(kQ4ShardDiffers, shard.path(), "header",
                GotExpected(fmt::format("shard {} of {}", shard.index().shard, shard.index().shard_count),
                            fmt::format("shard {} of {}", number, count)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Q4Model>> Q4Model::Open(FileSystem& fs, const std::string& path) {
  std::unique_ptr<Q4Model> model(new Q4Model);
  model->path_ = path;
  Q4_ASSIGN_OR_RETURN(const bool is_list, IsShardList(fs, path));
  Q4ShardList list;
  if (is_list) {
    // Nothing in the list is believed until its shard was opened. Its names are plain file names, so no path leaves its
    // folder.
    Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path));
    if (file->size() > limits::kShardIndexBytes) {
      return Fail(
          kFileTooLarge, path, {},
          GotExpected(std::to_string(file->size()) + " bytes", "at most " + std::to_string(limits::kShardIndexBytes)));
    }
    JsonFile text(*file, 0, file->size());
    Q4_ASSIGN_OR_RETURN(list, ParseQ4ShardList(text, path));
    for (const Q4ShardEntry& entry : list.parts) {
      // Opening checks the shard by itself; CheckShard() then holds it against the list.
      Q4_ASSIGN_OR_RETURN(auto shard, Q4Reader::Open(fs, JoinPath(DirectoryOf(path), entry.name)));
      Q4_RETURN_IF_ERROR(CheckShard(*shard, entry, model->shards_.size(), list.parts.size()));
      model->shards_.push_back(std::move(shard));
    }
  } else {
    // A shard opened alone is a model of its own tensors.
    Q4_ASSIGN_OR_RETURN(auto shard, Q4Reader::Open(fs, path));
    model->shards_.push_back(std::move(shard));
  }

  // Counted first: locations of a million tensors are reserved once.
  std::size_t tensor_count = 0;
  for (const auto& shard : model->shards_) tensor_count += shard->index().tensors.size();
  model->tensors_.reserve(tensor_count);
  for (std::size_t s = 0; s < model->shards_.size(); ++s) {
    for (std::size_t t = 0; t < model->shards_[s]->index().tensors.size(); ++t) model->tensors_.push_back({s, t});
  }
  // One container has its tensors sorted already. The shards of a model are merged by sorting: a million names take
  // less time than opening their files.
  if (!is_list) return model;
  std::sort(model->tensors_.begin(), model->tensors_.end(),
            [&model](const Location& a, const Location& b) { return model->tensor(a).name < model->tensor(b).name; });
  // The list names each tensor once, so a name in two shards shows as a difference.
  const bool same = std::equal(model->tensors_.begin(), model->tensors_.end(), list.tensors.begin(), list.tensors.end(),
                               [&model](const Location& at, const std::pair<std::string, std::uint32_t>& listed) {
                                 return model->tensor(at).name == listed.first && at.shard == listed.second;
                               });
  if (!same) return Fail(kQ4ShardDiffers, path, "tensors", "the list and the shards name different ones");
  return model;
}

// The locations are sorted by name, whether or not there are shards.
const Q4Model::Location* Q4Model::Find(std::string_view name) const {
  const auto at =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [this](const Location& location, std::string_view n) { return tensor(location).name < n; });
  return at != tensors_.end() && tensor(*at).name == name ? &*at : nullptr;
}

// Only the first shard has files (section 5), so the others are passed over quickly.
absl::StatusOr<std::string> Q4Model::ReadFile(std::string_view name, std::uint64_t limit) const {
  for (const auto& shard : shards_) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      if (file.name == name) return shard->ReadFile(file, limit);
    }
  }
  return Fail(kQ4NoSuchFile, path_, "file '" + std::string(name) + "'");
}

// The roots were compared with the list, and the list's own root with these, when the model was opened.
Sha256 Q4Model::root() const {
  std::vector<Sha256> roots;
  roots.reserve(shards_.size());
  for (const auto& shard : shards_) roots.push_back(shard->seal().root);
  return Q4ModelRoot(roots);
}

absl::Status Q4Model::RequireRoot(const std::optional<Sha256>& pinned) const {
  if (!pinned || *pinned == root()) return absl::OkStatus();
  return Fail(kQ4OtherRoot, path_, "root", GotExpected("sha256:" + HexOf(root()), "sha256:" + HexOf(*pinned)));
}

}  // namespace q4
