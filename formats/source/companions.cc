// Names first, then what lies there: only files whose names are admitted are asked about, so that a link or a large
// file that is of no interest is no error. The files of the directory come first, then those in the subdirectories that
// modules.json names; at the end all are sorted by name, the order in which a container lists them.
#include "formats/source/companions.h"

#include <algorithm>
#include <array>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/hub_cache.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/modules.h"

namespace q4 {
namespace {

constexpr char kConfigName[] = "config.json";

// Weights are not embedded, for they are converted; code is not, since a loader might execute what a container brought.
// Refused endings come first: the index ends in .json too.
constexpr std::array<std::string_view, 13> kRefusedEndings = {".py",   ".so",   ".safetensors", ".bin", ".pt",
                                                              ".pth",  ".ckpt", ".gguf",        ".h5",  ".msgpack",
                                                              ".onnx", ".q4",   ".index.json"};
constexpr std::array<std::string_view, 6> kAdmittedEndings = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"};

// Adds `name` if it is a regular file; anything else that merely has such a name is passed over, except a symbolic
// link.
absl::Status AddIfRegular(FileSystem& fs, const std::string& directory, const std::string& name, SymbolicLinks links,
                          std::vector<CompanionFile>* companions) {
  const std::string path = JoinPath(directory, name);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs, path, links));
  // A link that may be followed but is broken. Passing it over would lose a file that the model needs.
  if (info.is_symlink && !info.exists) return Fail(kNotARegularFile, path, {}, "the link leads nowhere");
  if (!info.is_regular) return absl::OkStatus();
  // The container that embeds them has these limits; better refused here than after the weights are converted.
  if (info.size > limits::kEmbeddedFileBytes) {
    return Fail(
        kCompanionTooLarge, path, {},
        GotExpected(std::to_string(info.size) + " bytes", "at most " + std::to_string(limits::kEmbeddedFileBytes)));
  }
  if (companions->size() == limits::kEmbeddedFiles) {
    return Fail(kTooManyCompanions, directory, {}, "at most " + std::to_string(limits::kEmbeddedFiles));
  }
  companions->push_back({name, path, info.size, info.identity});
  return absl::OkStatus();
}

// Whether the directory of `main` is taken for a model's, all of its companions included. A file of another name than
// model* may lie in a directory with files of all kinds; only config.json beside it says that this is a model
// directory. A broken link counts, for FindCompanions() to report.
absl::StatusOr<bool> TakesCompanions(FileSystem& fs, const MainFile& main) {
  if (main.is_index || BaseNameOf(main.path).starts_with("model")) return true;
  Q4_ASSIGN_OR_RETURN(const PathInfo config, fs.Stat(JoinPath(DirectoryOf(main.path), kConfigName)));
  return config.exists || config.is_symlink;
}

}  // namespace

bool IsCompanionName(std::string_view name) {
  const auto ends = [name](std::string_view ending) { return name.ends_with(ending); };
  if (name.empty() || name.front() == '.') return false;
  if (std::any_of(kRefusedEndings.begin(), kRefusedEndings.end(), ends)) return false;
  if (std::any_of(kAdmittedEndings.begin(), kAdmittedEndings.end(), ends)) return true;
  return name == "README" || name.starts_with("LICENSE") || name.starts_with("NOTICE");
}

absl::StatusOr<std::vector<CompanionFile>> FindCompanions(FileSystem& fs, const std::string& directory,
                                                          SymbolicLinks links) {
  std::vector<CompanionFile> companions;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(directory));
  for (const std::string& name : names) {
    if (IsCompanionName(name)) Q4_RETURN_IF_ERROR(AddIfRegular(fs, directory, name, links, &companions));
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> folders, ModuleFolders(fs, directory, links));
  for (const std::string& folder : folders) {
    Q4_RETURN_IF_ERROR(AddIfRegular(fs, directory, folder + "/" + kConfigName, links, &companions));
  }
  std::sort(companions.begin(), companions.end(),
            [](const CompanionFile& a, const CompanionFile& b) { return a.name < b.name; });
  return companions;
}

absl::StatusOr<std::vector<CompanionFile>> CompanionsOf(FileSystem& fs, const MainFile& main, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const bool takes, TakesCompanions(fs, main));
  return takes ? FindCompanions(fs, DirectoryOf(main.path), links) : std::vector<CompanionFile>();
}

absl::StatusOr<bool> WouldBeCompanion(FileSystem& fs, const MainFile& main, const std::string& path) {
  const std::string directory = DirectoryOf(main.path), name = BaseNameOf(path);
  if (!IsCompanionName(name)) return false;
  Q4_ASSIGN_OR_RETURN(const bool takes, TakesCompanions(fs, main));
  Q4_ASSIGN_OR_RETURN(const bool beside, SamePlace(fs, path, JoinPath(directory, name)));
  // The first config.json makes the directory a model's.
  if (beside) return takes || name == kConfigName;
  if (!takes || name != kConfigName) return false;
  const auto folders = ModuleFolders(fs, directory, SymbolicLinks::kFollow);
  if (!folders.ok()) return false;  // opening the checkpoint fails on it and says why
  for (const std::string& folder : *folders) {
    Q4_ASSIGN_OR_RETURN(const bool same, SamePlace(fs, path, JoinPath(directory, folder + "/" + kConfigName)));
    if (same) return true;
  }
  return false;
}

}  // namespace q4
