// OpenCheckpoint(): finds the checkpoint that a path means, opens it as one file or as shards, and adds its companions.
//
// Two questions are kept apart. Which file a directory means goes by names (FindFormat()), format by format in the
// order of the table of source_formats.h. What a file is goes by its first bytes: JSON is a shard index, everything
// else is for the reader that recognises it. All errors of a reader come before those of companions: weights that
// cannot be read are what the user must hear of first.
#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/strict_json.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/companions.h"
#include "formats/source/foreign_files.h"
#include "formats/source/pipeline.h"
#include "formats/source/shard_index.h"
#include "formats/source/sniff.h"
#include "formats/source/source_formats.h"

namespace q4 {
namespace {

constexpr std::string_view kIndexEnding = ".index.json";

// Weights that no row of source_formats.h claims. Used when nothing else was found, so that a user with a PyTorch
// checkpoint reads that the format is not supported, and not that the directory is empty.
bool IsUnsupportedWeights(std::string_view name) {
  return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".ckpt") ||
         name.ends_with(".gguf");
}

// "a, b, c and 5 more"
std::string ListNames(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kShown) out += " and " + std::to_string(names.size() - kShown) + " more";
  return out;
}

absl::StatusOr<ShardIndex> ReadShardIndex(const RandomAccessFile& file) {
  // The parser reads as a stream and has no limit of its own for the whole text.
  if (file.size() > limits::kShardIndexBytes) {
    return Fail(
        kJsonTooLarge, file.path(), {},
        GotExpected(std::to_string(file.size()) + " bytes", "at most " + std::to_string(limits::kShardIndexBytes)));
  }
  JsonFile text(file, 0, file.size());
  return ParseShardIndex(text, file.path());
}

// Whether the shard index at `path` names `shard`.
absl::StatusOr<bool> IndexNames(FileSystem& fs, const std::string& path, std::string_view shard, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, links));
  Q4_ASSIGN_OR_RETURN(const ShardIndex index, ReadShardIndex(*file));
  return std::binary_search(index.shards.begin(), index.shards.end(), shard);
}

// The checkpoint of the usual name `model_file` or its index, "" when there is none. `names` are sorted.
absl::StatusOr<std::string> FindUsual(FileSystem& fs, const std::string& directory,
                                      const std::vector<std::string>& names, std::string_view model_file,
                                      SymbolicLinks links) {
  const std::string index = std::string(model_file) + std::string(kIndexEnding);
  const bool has_file = std::binary_search(names.begin(), names.end(), model_file);
  const bool has_index = std::binary_search(names.begin(), names.end(), index);
  const auto path_of = [&](std::string_view name) { return JoinPath(directory, std::string(name)); };
  if (has_file && has_index) {
    // Both lie there. That is one checkpoint if the file is one of the shards; otherwise it would be a guess which one
    // the user means, and a wrong one converts the wrong weights.
    Q4_ASSIGN_OR_RETURN(const bool names_it, IndexNames(fs, path_of(index), model_file, links));
    if (names_it) return path_of(index);
    return Fail(kAmbiguousDirectory, directory, {}, ListNames({std::string(model_file), index}));
  }
  if (has_index) return path_of(index);
  return has_file ? path_of(model_file) : std::string();
}

// Whether `name` is that of a shard index of files with `ending`: "model.safetensors.index.json", or of a variant as
// diffusers calls it, "model.safetensors.index.fp16.json".
bool IsIndexName(std::string_view name, std::string_view ending) {
  if (name.ends_with(std::string(ending) + std::string(kIndexEnding))) return true;
  return name.ends_with(".json") && name.find(std::string(ending) + ".index.") != std::string_view::npos;
}

// The one checkpoint of `format` among the files of a directory, "" when there is none; the rule is in checkpoint.h.
absl::StatusOr<std::string> FindFormat(FileSystem& fs, const std::string& directory,
                                       const std::vector<std::string>& names, const SourceFormat& format,
                                       SymbolicLinks links) {
  for (const std::string_view usual : {format.model_file, format.component_file}) {
    // ListDirectory() sorts.
    Q4_ASSIGN_OR_RETURN(std::string found, FindUsual(fs, directory, names, usual, links));
    if (!found.empty()) return found;
  }
  const auto path_of = [&](std::string_view name) { return JoinPath(directory, std::string(name)); };
  std::vector<std::string> files, indices;
  for (const std::string& name : names) {
    if (name.ends_with(format.ending)) files.push_back(name);
    if (IsIndexName(name, format.ending)) indices.push_back(name);
  }
  // Neither has the usual name. An index goes before files, which are probably its shards.
  const std::vector<std::string>& candidates = indices.empty() ? files : indices;
  if (candidates.size() > 1) return Fail(kAmbiguousDirectory, directory, {}, ListNames(candidates));
  return candidates.empty() ? std::string() : path_of(candidates.front());
}

absl::StatusOr<std::string> FindInDirectory(FileSystem& fs, const std::string& directory, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> names, fs.ListDirectory(directory));
  // Hidden files, such as "._model.safetensors" of macOS, may have the ending but are no checkpoints.
  std::erase_if(names, [](const std::string& name) { return name.front() == '.'; });
  // The first format that is there has the directory. An error in it ends the search: a later format must not be taken
  // instead.
  for (const SourceFormat& format : SourceFormats()) {
    Q4_ASSIGN_OR_RETURN(std::string found, FindFormat(fs, directory, names, format, links));
    if (!found.empty()) return found;
  }
  std::erase_if(names, [](const std::string& name) { return !IsUnsupportedWeights(name); });
  if (!names.empty()) {
    return Fail(kUnsupportedFormat, directory, {},
                "found only " + ListNames(names) + "; save the model as safetensors first");
  }
  return Fail(kNoCheckpointFound, directory, {}, GotExpected("no such file", "model.safetensors or its index"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(FileSystem& fs, const std::string& path,
                                                           const OpenOptions& options) {
  const SymbolicLinks links = options.follow_symlinks ? SymbolicLinks::kFollow : SymbolicLinks::kRefuse;
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  std::string file_path = path;
  std::optional<AdapterFolder> adapter;
  // Whatever else lies in the folder: files at the top of a pipeline are other ways to save its components.
  if (info.is_directory) Q4_RETURN_IF_ERROR(RefusePipeline(fs, path));
  if (info.is_regular && BaseNameOf(path) == kPipelineName) {
    Q4_RETURN_IF_ERROR(RefusePipeline(fs, DirectoryOf(path)));
  }
  if (info.is_directory) {
    Q4_ASSIGN_OR_RETURN(adapter, FindAdapterFolder(fs, path));
    if (adapter && adapter->weights.empty()) return ForeignStatus(adapter->foreign);
    if (adapter) {
      file_path = adapter->weights;
    } else {
      Q4_ASSIGN_OR_RETURN(file_path, FindInDirectory(fs, path, links));
    }
  }
  // The user named the path itself, so it may be a link; what was found in a directory may not (OpenOptions).
  Q4_ASSIGN_OR_RETURN(std::shared_ptr<RandomAccessFile> file,
                      fs.OpenForRead(file_path, info.is_directory ? links : SymbolicLinks::kFollow));
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), kSniffBytes)));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));

  const FileKind kind = SniffKind(head);
  // Any JSON is taken for an index; ParseShardIndex() refuses what is none.
  const bool sharded = kind == FileKind::kJson;
  CheckpointContent content;
  SourceRemarks remarks;
  content.path = path;
  content.main_file = {file_path, file->identity(), sharded, info.is_directory};
  if (sharded) {
    Q4_ASSIGN_OR_RETURN(const ShardIndex index, ReadShardIndex(*file));
    Q4_ASSIGN_OR_RETURN(CheckpointPayload payload, OpenShards(fs, file_path, index, links));
    content.format = std::move(payload.format) + "-sharded";
    content.files = std::move(payload.files);
    content.tensors = std::move(payload.tensors);
    content.notes = std::move(payload.notes);
    remarks = std::move(payload.remarks);
  } else {
    const SourceFormat& format = SourceFormatOf(kind);
    content.format = format.name;
    Q4_ASSIGN_OR_RETURN(SourceHeader header, format.read_header(*file));
    content.tensors = std::move(header.tensors);
    remarks = std::move(header.remarks);
    content.files.push_back({BaseNameOf(file_path), std::move(file)});
  }
  // Readers accept a file without tensors, as a shard may be one; a whole checkpoint without any is mostly a mistake.
  if (content.tensors.empty() && !options.allow_empty) return Fail(kNoTensors, file_path, {});
  std::vector<std::string> weights;
  for (const CheckpointFile& part : content.files) weights.push_back(part.name);
  Q4_ASSIGN_OR_RETURN(ModelFolder folder, ClassifyFolder(fs, content.main_file, weights, links));
  content.companions = std::move(folder.companions);
  content.left_out = std::move(folder.left_out);
  content.notes.insert(content.notes.end(), std::make_move_iterator(folder.notes.begin()),
                       std::make_move_iterator(folder.notes.end()));
  // No file of the folder, but as much left out as one: a container has no place for it.
  if (!remarks.empty()) content.left_out.push_back({"__metadata__", remarks.Text(), false});
  std::sort(content.left_out.begin(), content.left_out.end(),
            [](const LeftOutFile& a, const LeftOutFile& b) { return a.name < b.name; });
  Q4_ASSIGN_OR_RETURN(content.foreign, FindForeign(fs, content, &content.notes));
  if (adapter && !content.foreign) content.foreign = std::move(adapter->foreign);
  return std::make_unique<Checkpoint>(std::move(content));
}

}  // namespace q4
