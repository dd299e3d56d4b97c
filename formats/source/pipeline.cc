// model_index.json is untrusted: its keys become paths only after they were seen among the folder's own entries.
#include "formats/source/pipeline.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/pipeline_index.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/source_formats.h"

namespace q4 {

absl::StatusOr<std::string> PipelineFolder(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo given, fs.Stat(path));
  if (given.is_regular) return BaseNameOf(path) == kPipelineIndexName ? DirectoryOf(path) : std::string();
  if (!given.is_directory) return std::string();
  Q4_ASSIGN_OR_RETURN(const PathInfo index, fs.Stat(JoinPath(path, kPipelineIndexName)));
  return index.is_regular ? path : std::string();
}

absl::StatusOr<bool> HoldsWeights(FileSystem& fs, const std::string& directory) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(directory));
  const std::span<const SourceFormat> formats = SourceFormats();
  return std::any_of(names.begin(), names.end(), [formats](std::string_view name) {
    return std::any_of(formats.begin(), formats.end(),
                       [name](const SourceFormat& format) { return HasEnding(format, name); });
  });
}

namespace {

// The members of model_index.json: {"transformer": ["diffusers", "FluxTransformer2DModel"], "_class_name": "..."}.
absl::StatusOr<std::vector<std::string>> MembersOf(FileSystem& fs, const std::string& path) {
  std::vector<std::string> members;
  const auto text = ReadWholeFile(fs, path, limits::kConfigJsonBytes);
  if (ExitCodeOf(text.status()) == ExitCode::kIo) return text.status();
  // A file that is too large, or no JSON, is a pipeline's all the same.
  if (!text.ok()) return members;
  const auto json = ParseModelJson(*text, path);
  if (!json.ok() || !json->is_object()) return members;
  for (const auto& [key, value] : json->items()) {
    if (value.is_array()) members.push_back(key);
  }
  return members;
}

}  // namespace

absl::Status RefusePipeline(FileSystem& fs, const std::string& directory) {
  const std::string path = JoinPath(directory, kPipelineIndexName);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.is_regular) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> members, MembersOf(fs, path));
  std::sort(members.begin(), members.end());
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> entries, fs.ListDirectory(directory));
  std::string components;
  for (const std::string& entry : entries) {
    if (!std::binary_search(members.begin(), members.end(), entry)) continue;
    Q4_ASSIGN_OR_RETURN(const PathInfo folder, fs.Stat(JoinPath(directory, entry)));
    if (!folder.is_directory) continue;
    Q4_ASSIGN_OR_RETURN(const bool weights, HoldsWeights(fs, JoinPath(directory, entry)));
    if (weights) components += (components.empty() ? "" : ", ") + entry;
  }
  return Fail(kPipeline, directory, kPipelineIndexName,
              components.empty() ? "no component has weights here" : "components with weights: " + components);
}

}  // namespace q4
