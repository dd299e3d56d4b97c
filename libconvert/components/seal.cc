// Parsing is strict: what is not as q4convert writes it was written by somebody else, and then nothing is vouched for.
#include "libconvert/components/seal.h"

#include <algorithm>
#include <type_traits>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/pipeline_index.h"
#include "formats/names/portable_names.h"
#include "formats/q4/shards.h"
#include "libconvert/base/json_document.h"
#include "libconvert/components/components_issues.h"

namespace q4 {
namespace {

constexpr char kDocument[] = "q4-pipeline";
constexpr int kVersion = 1;
constexpr int kDepth = 4;

// One member of an object of the document, of the type that `T` has.
template <typename T>
absl::Status Take(const Json& object, std::string_view key, std::string_view path, T* value) {
  const Json* const member = FindMember(object, key);
  bool right = member != nullptr;
  if constexpr (std::is_same_v<T, std::string>) {
    right = right && (member->is_string() || member->is_null());
    if (right) *value = member->is_null() ? std::string() : member->text();
  } else {
    right = right && member->is_number_unsigned();
    if (right) *value = *member;
  }
  return right ? absl::OkStatus() : Fail(kPipelineSealForm, path, key, "missing, or of another type");
}

absl::StatusOr<const Json*> List(const Json& json, std::string_view key, std::uint64_t most, std::string_view path) {
  const Json* const list = FindMember(json, key);
  if (list == nullptr || !list->is_array()) return Fail(kPipelineSealForm, path, key, "no list");
  if (list->size() > most) return Fail(kPipelineSealForm, path, key, fmt::format("more than {}", most));
  return list;
}

const SealedFile* FindFile(const PipelineSeal& seal, const std::string& path) {
  const auto at = std::lower_bound(seal.files.begin(), seal.files.end(), path,
                                   [](const SealedFile& file, const std::string& name) { return file.path < name; });
  return at != seal.files.end() && at->path == path ? &*at : nullptr;
}

absl::Status CheckComponent(const PipelineSeal& seal, const SealedComponent& component, std::string_view path) {
  if (!IsComponentName(component.name)) {
    return Fail(kPipelineSealForm, path, component.name, "a component's name must be an identifier, and no device");
  }
  if (component.container.empty() && component.root.empty()) return absl::OkStatus();
  const std::string container = component.name + "/model.q4";
  if ((component.container != container && component.container != Q4ShardIndexName(container)) ||
      FindFile(seal, component.container) == nullptr || !ParseQ4Root(component.root)) {
    return Fail(kPipelineSealForm, path, component.name, "container and root");
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodePipelineSeal(const PipelineSeal& seal) {
  Json json;
  json["document"] = kDocument;
  json["version"] = kVersion;
  json["tool_version"] = seal.tool_version;
  json["class"] = TextOrNull(seal.class_name);
  json["components"] = Json::array();
  for (const SealedComponent& component : seal.components) {
    json["components"].push_back({{"name", component.name},
                                  {"library", component.library},
                                  {"class", component.class_name},
                                  {"container", TextOrNull(component.container)},
                                  {"root_sha256", TextOrNull(component.root)}});
  }
  json["files"] = Json::array();
  for (const SealedFile& file : seal.files) {
    json["files"].push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  json["left_out"] = Json::array();
  for (const SealedLeftOut& file : seal.left_out) {
    json["left_out"].push_back({{"name", file.name}, {"reason", file.reason}});
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<PipelineSeal> ParsePipelineSeal(std::string_view text, std::string_view path) {
  Q4_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path, kDepth));
  PipelineSeal seal;
  std::string document;
  std::uint64_t version = 0;
  Q4_RETURN_IF_ERROR(Take(json, "document", path, &document));
  Q4_RETURN_IF_ERROR(Take(json, "version", path, &version));
  if (document != kDocument) return Fail(kPipelineSealForm, path, "document", GotExpected(document, kDocument));
  if (version > kVersion) {
    return Fail(kPipelineSealVersion, path, {}, GotExpected(fmt::to_string(version), fmt::to_string(kVersion)));
  }
  Q4_RETURN_IF_ERROR(Take(json, "tool_version", path, &seal.tool_version));
  Q4_RETURN_IF_ERROR(Take(json, "class", path, &seal.class_name));
  Q4_ASSIGN_OR_RETURN(const Json* const files, List(json, "files", limits::kPipelineFiles, path));
  PortableNames together;
  for (const Json& entry : *files) {
    SealedFile& file = seal.files.emplace_back();
    Q4_RETURN_IF_ERROR(Take(entry, "path", path, &file.path));
    Q4_RETURN_IF_ERROR(Take(entry, "bytes", path, &file.bytes));
    Q4_RETURN_IF_ERROR(Take(entry, "sha256", path, &file.sha256));
    if (const std::string_view problem = FilePathProblem(file.path); !problem.empty()) {
      return Fail(kPipelineSealForm, path, file.path, problem);
    }
    if (!ParseQ4Root(file.sha256) || file.path == kPipelineSealName) {
      return Fail(kPipelineSealForm, path, file.path, "digest or name");
    }
    if (seal.files.size() > 1 && seal.files[seal.files.size() - 2].path >= file.path) {
      return Fail(kPipelineSealForm, path, file.path, "files must be sorted, each once");
    }
    if (const std::string problem = together.Add(file.path); !problem.empty()) {
      return Fail(kPipelineSealForm, path, file.path, problem);
    }
  }
  Q4_ASSIGN_OR_RETURN(const Json* const components, List(json, "components", limits::kComponents, path));
  for (const Json& entry : *components) {
    SealedComponent& component = seal.components.emplace_back();
    Q4_RETURN_IF_ERROR(Take(entry, "name", path, &component.name));
    Q4_RETURN_IF_ERROR(Take(entry, "library", path, &component.library));
    Q4_RETURN_IF_ERROR(Take(entry, "class", path, &component.class_name));
    Q4_RETURN_IF_ERROR(Take(entry, "container", path, &component.container));
    Q4_RETURN_IF_ERROR(Take(entry, "root_sha256", path, &component.root));
    Q4_RETURN_IF_ERROR(CheckComponent(seal, component, path));
  }
  const auto by_name = [](const SealedComponent& a, const SealedComponent& b) { return a.name < b.name; };
  const auto same = [](const SealedComponent& a, const SealedComponent& b) { return a.name == b.name; };
  if (!std::is_sorted(seal.components.begin(), seal.components.end(), by_name) ||
      std::adjacent_find(seal.components.begin(), seal.components.end(), same) != seal.components.end()) {
    return Fail(kPipelineSealForm, path, "components", "must be sorted, each once");
  }
  Q4_ASSIGN_OR_RETURN(const Json* const left_out, List(json, "left_out", limits::kPipelineFiles, path));
  for (const Json& entry : *left_out) {
    SealedLeftOut& file = seal.left_out.emplace_back();
    Q4_RETURN_IF_ERROR(Take(entry, "name", path, &file.name));
    Q4_RETURN_IF_ERROR(Take(entry, "reason", path, &file.reason));
  }
  if (EncodePipelineSeal(seal) != text) return Fail(kPipelineSealForm, path, {}, "other bytes than the same seal has");
  return seal;
}

absl::StatusOr<ReadSeal> ReadPipelineSeal(FileSystem& fs, const std::string& directory) {
  const std::string path = JoinPath(directory, kPipelineSealName);
  Q4_ASSIGN_OR_RETURN(const std::string text,
                      ReadWholeFile(fs, path, limits::kConfigJsonBytes, SymbolicLinks::kRefuse));
  ReadSeal read;
  Q4_ASSIGN_OR_RETURN(read.seal, ParsePipelineSeal(text, path));
  read.root = Sha256Of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  return read;
}

absl::StatusOr<std::string> SealedPipelineFolder(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo given, fs.Stat(path));
  if (given.is_regular) return BaseNameOf(path) == kPipelineSealName ? DirectoryOf(path) : std::string();
  if (!given.is_directory) return std::string();
  Q4_ASSIGN_OR_RETURN(const PathInfo seal, fs.Stat(JoinPath(path, kPipelineSealName)));
  return seal.is_regular ? path : std::string();
}

}  // namespace q4
