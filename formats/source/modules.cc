// A walk over folders, beginning with the model's own directory: each may hold a list of further ones. A folder is
// entered once, whatever lists it how often, and all are counted, so that no list can make the walk long.
#include "formats/source/modules.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/names/hub_cache.h"
#include "formats/names/portable_names.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {
namespace {

constexpr char kRouterName[] = "router_config.json";
constexpr char kModuleConfig[] = "config.json";

std::string JoinFolder(const std::string& folder, std::string_view name) {
  return folder.empty() ? std::string(name) : folder + "/" + std::string(name);
}

// "./2_Dense/" -> "2_Dense". What is wrong with the path, "" if nothing is: it leads anywhere but into the directory,
// which the loader refuses too, or to a folder that a container cannot name, where an export would write.
std::string_view NormalizeFolder(std::string_view path, std::string* folder) {
  if (path.starts_with('/')) return "it is absolute";
  folder->clear();
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (!folder->empty()) folder->push_back('/');
    folder->append(part);
  }
  return folder->empty() ? std::string_view() : FolderNameProblem(*folder);
}

// The text of a list of folders, parsed; a null value where there is no such file.
absl::StatusOr<Json> ReadList(FileSystem& fs, const std::string& path, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs, path, links));
  if (!info.is_regular) return Json(nullptr);
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kConfigJsonBytes, links));
  return ParseModelJson(text, path);
}

// The paths that modules.json lists, relative to the model directory.
absl::StatusOr<std::vector<std::string>> PathsOfModules(const Json& modules, const std::string& path) {
  if (!modules.is_array()) return Fail(kModulesForm, path, {}, GotExpected("no array", "an array"));
  std::vector<std::string> folders;
  for (const Json& module : modules) {
    const Json* const member = FindMember(module, "path");
    if (member == nullptr || !member->is_string()) return Fail(kModulesForm, path, {}, "a module has no path");
    const auto& text = member->get_ref<const std::string&>();
    if (const std::string_view problem = NormalizeFolder(text, &folders.emplace_back()); !problem.empty()) {
      return Fail(kModulesForm, path, {}, fmt::format("got '{}': {}", text, problem));
    }
  }
  return folders;
}

// The names that a Router's configuration lists, relative to its folder. `is_legacy`: it is a config.json, which is a
// Router's only if it has both members that nothing else has.
absl::StatusOr<std::vector<std::string>> PathsOfRouter(const Json& config, const std::string& path, bool is_legacy) {
  std::vector<std::string> folders;
  const Json* const types = FindMember(config, "types");
  const Json* const structure = FindMember(config, "structure");
  const bool is_router = types != nullptr && types->is_object() && structure != nullptr && structure->is_object();
  if (!is_router) {
    if (is_legacy) return folders;
    return Fail(kRouterForm, path, {}, GotExpected("none", "objects 'types' and 'structure'"));
  }
  for (const auto& [name, type] : types->items()) {
    if (const std::string_view problem = NormalizeFolder(name, &folders.emplace_back()); !problem.empty()) {
      return Fail(kRouterForm, path, {}, fmt::format("got '{}': {}", name, problem));
    }
  }
  return folders;
}

// What the Router in `folder`, "" for the model directory, lists: relative to the model directory. Nothing if `folder`
// is no Router's.
absl::StatusOr<std::vector<std::string>> FoldersOfRouter(FileSystem& fs, const std::string& directory,
                                                         const std::string& folder, SymbolicLinks links) {
  std::string path = JoinPath(directory, JoinFolder(folder, kRouterName));
  Q4_ASSIGN_OR_RETURN(Json config, ReadList(fs, path, links));
  const bool is_legacy = config.is_null();
  if (is_legacy) {
    path = JoinPath(directory, JoinFolder(folder, kModuleConfig));
    absl::StatusOr<Json> legacy = ReadList(fs, path, links);
    // Every folder may have one, and what is wrong with it is for those to say who need it.
    if (!legacy.ok() && ExitCodeOf(legacy.status()) != ExitCode::kInvalidInput) return legacy.status();
    if (!legacy.ok() || legacy->is_null()) return std::vector<std::string>();
    config = *std::move(legacy);
  }
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> folders, PathsOfRouter(config, path, is_legacy));
  for (std::string& name : folders) name = name.empty() ? folder : JoinFolder(folder, name);
  return folders;
}

// Whether `folder` is there. Every folder on the way is looked at: the file system follows links in all components but
// the last.
absl::StatusOr<bool> IsFolder(FileSystem& fs, const std::string& directory, const std::string& folder,
                              SymbolicLinks links) {
  for (std::size_t end = 0; end != std::string::npos;) {
    end = folder.find('/', end + 1);
    const std::string path = JoinPath(directory, folder.substr(0, end));
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs, path, links));
    if (!info.exists) return false;
    if (!info.is_directory) {
      return Fail(kModulesForm, JoinPath(directory, kModulesName), {}, "'" + folder + "' is no folder");
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ModuleFolders(FileSystem& fs, const std::string& directory,
                                                       SymbolicLinks links) {
  const std::string path = JoinPath(directory, kModulesName);
  Q4_ASSIGN_OR_RETURN(const Json modules, ReadList(fs, path, links));
  if (modules.is_null()) return std::vector<std::string>();
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> open, PathsOfModules(modules, path));
  std::set<std::string> seen, folders;
  while (!open.empty()) {
    const std::string folder = std::move(open.back());
    open.pop_back();
    if (!seen.insert(folder).second) continue;
    if (seen.size() > limits::kModuleFolders) {
      return Fail(kTooManyModules, path, {}, "at most " + std::to_string(limits::kModuleFolders));
    }
    if (!folder.empty()) {
      Q4_ASSIGN_OR_RETURN(const bool exists, IsFolder(fs, directory, folder, links));
      if (!exists) continue;
      folders.insert(folder);
    }
    Q4_ASSIGN_OR_RETURN(const auto inner, FoldersOfRouter(fs, directory, folder, links));
    open.insert(open.end(), inner.begin(), inner.end());
  }
  return std::vector<std::string>(folders.begin(), folders.end());
}

bool IsModuleFolder(std::string_view path) {
  std::string folder;
  return NormalizeFolder(path, &folder).empty() && folder == path && !path.empty();
}

std::string_view ModuleFolderOf(std::span<const std::string> folders, std::string_view name) {
  // From the longest prefix down: a name has few slashes, folders may be many.
  for (std::size_t slash = name.rfind('/'); slash != std::string_view::npos && slash != 0;
       slash = name.rfind('/', slash - 1)) {
    const auto found = std::lower_bound(folders.begin(), folders.end(), name.substr(0, slash));
    if (found != folders.end() && *found == name.substr(0, slash)) return *found;
  }
  return {};
}

const std::string& ModelConfigs::Of(std::string_view tensor) const {
  const std::string_view folder = ModuleFolderOf(folders, tensor);
  if (folder.empty()) return root;
  return texts[static_cast<std::size_t>(std::lower_bound(folders.begin(), folders.end(), folder) - folders.begin())];
}

}  // namespace q4
