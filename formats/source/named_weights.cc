#include "formats/source/named_weights.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/names/hub_cache.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/shard_index.h"
#include "formats/source/source_formats.h"

namespace q4 {
namespace {

constexpr std::string_view kNamedWeightsKey = "transformers_weights";
constexpr std::string_view kImplementations[] = {"attn_implementation", "_attn_implementation",
                                                 "experts_implementation", "_experts_implementation"};

// Whether `value` has a text with a slash in it, of itself or as one of several for inner models.
bool NamesRepository(const Json& value) {
  if (value.is_string()) return value.get_ref<const std::string&>().find('/') != std::string::npos;
  return value.is_structured() && std::any_of(value.begin(), value.end(), NamesRepository);
}

bool IsRedirect(std::string_view key, const Json& value) {
  if (key == kNamedWeightsKey) return true;
  return std::find(std::begin(kImplementations), std::end(kImplementations), key) != std::end(kImplementations) &&
         NamesRepository(value);
}

// The member of an inner configuration, at whatever depth; nullptr where there is none.
const Json* FindInnerNamedWeights(const Json& value) {
  for (const Json& member : value) {
    if (!member.is_structured()) continue;
    const Json* found = FindMember(member, kNamedWeightsKey.data());
    if (found == nullptr || found->is_null()) found = FindInnerNamedWeights(member);
    if (found != nullptr) return found;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::string> NamedWeightsOf(std::string_view config_json, std::string_view path) {
  // Most configurations do not have it. An escaped key has a backslash.
  if (config_json.find("_weights") == std::string_view::npos && config_json.find('\\') == std::string_view::npos) {
    return std::string();
  }
  const absl::StatusOr<Json> json = ParseModelJson(config_json, path);
  if (!json.ok() || !json->is_object()) return std::string();
  if (FindInnerNamedWeights(*json) != nullptr) {
    return Fail(kNamedWeights, path, kNamedWeightsKey, "got it in an inner configuration");
  }
  const Json* const named = FindMember(*json, kNamedWeightsKey.data());
  if (named == nullptr || named->is_null()) return std::string();
  if (!named->is_string()) return Fail(kNamedWeights, path, kNamedWeightsKey, "got no text");
  const std::string& name = named->get_ref<const std::string&>();
  // Of other formats transformers takes none by this member.
  const SourceFormat& safetensors = SourceFormats().front();
  const bool is_read = HasEnding(safetensors, name) || HasEnding(safetensors, name, ".index.json");
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

bool DropRedirects(Json* config) {
  bool dropped = false;
  if (config->is_object()) {
    std::vector<std::string> redirects;
    for (const auto& [key, value] : config->items()) {
      if (IsRedirect(key, value)) redirects.push_back(key);
    }
    for (const std::string& key : redirects) config->erase(key);
    dropped = !redirects.empty();
  }
  // Of a scalar there are none.
  for (Json& value : *config) dropped = DropRedirects(&value) || dropped;
  return dropped;
}

}  // namespace q4
