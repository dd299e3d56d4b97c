#include "formats/source/named_weights.h"

#include <algorithm>
#include <span>

#include "formats/base/hub_cache.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/shard_index.h"
#include "formats/source/source_formats.h"

namespace q4 {

absl::StatusOr<std::string> NamedWeightsOf(std::string_view config_json, std::string_view path) {
  // Most configurations do not have it. An escaped key has a backslash.
  if (config_json.find("_weights") == std::string_view::npos && config_json.find('\\') == std::string_view::npos) {
    return std::string();
  }
  const absl::StatusOr<Json> json = ParseModelJson(config_json, path);
  const Json* const named = json.ok() ? FindMember(*json, kNamedWeightsKey) : nullptr;
  if (named == nullptr || named->is_null()) return std::string();
  if (!named->is_string()) return Fail(kNamedWeights, path, kNamedWeightsKey, "got no text");
  const std::string& name = named->get_ref<const std::string&>();
  const std::span<const SourceFormat> formats = SourceFormats();
  const bool is_read = std::any_of(formats.begin(), formats.end(), [&name](const SourceFormat& format) {
    return name.ends_with(format.ending) || name.ends_with(std::string(format.ending) + ".index.json");
  });
  if (!is_read || !IsPlainFileName(name) || name.front() == '.') {
    return Fail(kNamedWeights, path, kNamedWeightsKey, "got '" + name + "'");
  }
  return name;
}

absl::StatusOr<std::string> NamedWeightsIn(FileSystem& fs, const std::string& directory, SymbolicLinks links) {
  const std::string path = JoinPath(directory, "config.json");
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  // A link that must not be followed is refused as a companion, with all others.
  if (!info.is_regular || (info.is_symlink && !MayFollow(fs, path, links).ok())) return std::string();
  const absl::StatusOr<std::string> text = ReadWholeFile(fs, path, limits::kConfigJsonBytes, links);
  if (!text.ok()) return ExitCodeOf(text.status()) == ExitCode::kIo ? text.status() : absl::StatusOr<std::string>("");
  Q4_ASSIGN_OR_RETURN(std::string name, NamedWeightsOf(*text, path));
  if (name.empty()) return name;
  Q4_ASSIGN_OR_RETURN(const PathInfo weights, fs.Stat(JoinPath(directory, name)));
  if (!weights.exists) return Fail(kNamedWeights, path, kNamedWeightsKey, "'" + name + "' is not there");
  return name;
}

}  // namespace q4
