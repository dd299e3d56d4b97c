// Two steps: which folders are searched (SearchedFolders()), then each of their entries by its kind. The model's own
// folder comes first, then those below it by name; so the lists do not depend on the file system's order.
#include "formats/source/companions.h"

#include <algorithm>
#include <set>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/counted.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/folder/custom_code.h"
#include "formats/names/hub_cache.h"
#include "formats/names/portable_names.h"
#include "formats/q4/file_names.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/modules.h"
#include "formats/source/source_formats.h"

namespace q4 {
namespace {

// By either of them a folder is a model's: the one of transformers and others, and Mistral's and Meta's own.
constexpr std::string_view kConfigNames[] = {"config.json", "params.json"};
// Written into each exported folder; marks one that lies in the folder of a source.
constexpr char kExportMark[] = "q4_export.json";

// `name` in `folder`, both relative to the model's; "" is that one.
std::string InFolder(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "/" + name;
}

std::string PathOf(const std::string& directory, const std::string& name) {
  return name.empty() ? directory : JoinPath(directory, name);
}

// Weights or an index beside those that are read would make a folder that means something else.
bool IsWeightName(std::string_view name) {
  const std::span<const SourceFormat> formats = SourceFormats();
  const bool weights = name.ends_with(".index.json") ||
                       std::any_of(formats.begin(), formats.end(),
                                   [name](const SourceFormat& format) { return HasEnding(format, name); });
  return weights && KindOfFile(name).fate != FileFate::kOwn;
}

// Whether `folder` is one of `modules` or on the way to one.
bool LeadsToModule(const std::vector<std::string>& modules, const std::string& folder) {
  const auto at = std::lower_bound(modules.begin(), modules.end(), folder);
  if (at != modules.end() && *at == folder) return true;
  const auto below = std::lower_bound(modules.begin(), modules.end(), folder + "/");
  return below != modules.end() && below->starts_with(folder + "/");
}

bool IsSearched(const std::vector<std::string>& modules, const std::string& folder) {
  const auto depth = 1 + std::count(folder.begin(), folder.end(), '/');
  return depth <= limits::kFolderDepth &&
         (LeadsToModule(modules, folder) || KindOfFolder(BaseNameOf(folder)).fate == FolderFate::kSearched);
}

bool IsCarried(const FileNameKind& kind) { return kind.fate == FileFate::kCarried || kind.fate == FileFate::kDocument; }

// One folder, sorted into companions and what is left out.
class FolderSearch {
 public:
  FolderSearch(FileSystem& fs, const std::string& directory, std::set<std::string, std::less<>> taken,
               SymbolicLinks links)
      : fs_(fs), directory_(directory), taken_(std::move(taken)), links_(links) {}

  absl::StatusOr<ModelFolder> Run() {
    Q4_ASSIGN_OR_RETURN(modules_, ModuleFolders(fs_, directory_, links_));
    std::vector<std::string> open = {""};
    // Folders that are found are searched after this one, in the order of their names.
    for (std::size_t i = 0; i < open.size(); ++i) {
      const std::string folder = open[i];
      Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.ListDirectory(PathOf(directory_, folder)));
      for (const std::string& name : names) Q4_RETURN_IF_ERROR(AddEntry(folder, name, &open));
    }
    Q4_RETURN_IF_ERROR(AddCode());
    ModelFolder result{std::move(companions_), left_out_.Take(), CodeNotes(needs_, "the source folder")};
    std::sort(result.companions.begin(), result.companions.end(),
              [](const CompanionFile& a, const CompanionFile& b) { return a.name < b.name; });
    return result;
  }

 private:
  absl::Status AddEntry(const std::string& folder, const std::string& name, std::vector<std::string>* open) {
    const std::string relative = InFolder(folder, name);
    if (taken_.contains(relative)) return absl::OkStatus();
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(JoinPath(directory_, relative)));
    if (info.is_directory) return AddFolder(folder, name, info, open);
    const FileNameKind& kind = KindOfFile(name);
    if (IsCarried(kind)) return AddCompanion(folder, name, kind, info);
    switch (kind.fate) {
      case FileFate::kOtherWeights:
        left_out_.Add(folder, name, kind.reason, !HasWeights(folder));
        break;
      case FileFate::kCode:
        code_.push_back({folder, name});
        break;
      case FileFate::kHidden:
      case FileFate::kOwn:
        left_out_.Add(folder, name, kind.reason, /*warning=*/false, /*recorded=*/false);
        break;
      default:
        left_out_.Add(folder, name, kind.reason, kind.fate == FileFate::kMissed);
    }
    return absl::OkStatus();
  }

  absl::Status AddCompanion(const std::string& folder, const std::string& name, const FileNameKind& kind,
                            const PathInfo& info) {
    const std::string relative = InFolder(folder, name), path = JoinPath(directory_, relative);
    if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs_, path, links_));
    // A link that may be followed but is broken. Passing it over would lose a file that the model needs.
    if (info.is_symlink && !info.exists) return Fail(kNotARegularFile, path, {}, "the link leads nowhere");
    // Gone since it was listed.
    if (!info.exists) return absl::OkStatus();
    if (!info.is_regular) {
      left_out_.Add(folder, name, "no regular file", /*warning=*/true);
      return absl::OkStatus();
    }
    if (const std::string_view problem = Q4FileNameProblem(relative); !problem.empty()) {
      left_out_.Add(folder, name, "a name that a container cannot hold: " + std::string(problem), /*warning=*/true);
      return absl::OkStatus();
    }
    // The container that embeds them has these limits; better refused here than after the weights are converted.
    if (info.size > limits::kEmbeddedFileBytes) {
      if (kind.fate == FileFate::kDocument) {
        left_out_.Add(folder, name, "a document larger than a container can hold", /*warning=*/true);
        return absl::OkStatus();
      }
      return Fail(
          kCompanionTooLarge, path, {},
          GotExpected(std::to_string(info.size) + " bytes", "at most " + std::to_string(limits::kEmbeddedFileBytes) +
                                                                "; move it out of the folder if no loader needs it"));
    }
    if (companions_.size() == limits::kEmbeddedFiles) {
      return Fail(
          kTooManyCompanions, directory_, {},
          "at most " + std::to_string(limits::kEmbeddedFiles) + "; move what no loader needs out of the folder");
    }
    // Last, so that what is left out for another reason keeps no name.
    if (const std::string problem = names_.Add(relative); !problem.empty()) {
      left_out_.Add(folder, name, "a name that no export could write everywhere: " + problem, /*warning=*/true);
      return absl::OkStatus();
    }
    companion_bytes_ += info.size;
    if (companion_bytes_ > limits::kEmbeddedTotalBytes) {
      return Fail(kCompanionTooLarge, directory_, {},
                  GotExpected("files of " + std::to_string(companion_bytes_) + " bytes together",
                              "at most " + std::to_string(limits::kEmbeddedTotalBytes) +
                                  "; move what no loader needs out of the folder"));
    }
    companions_.push_back({relative, path, info.size, info.identity, info.version});
    return absl::OkStatus();
  }

  absl::Status AddFolder(const std::string& folder, const std::string& name, const PathInfo& info,
                         std::vector<std::string>* open) {
    const std::string relative = InFolder(folder, name), path = JoinPath(directory_, relative);
    if (IsSearched(modules_, relative)) {
      if (info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs_, path, links_));
      open->push_back(relative);
      return absl::OkStatus();
    }
    const FolderNameKind& kind = KindOfFolder(name);
    std::string_view reason = kind.reason;
    bool warning = kind.fate == FolderFate::kMissed;
    if (kind.fate == FolderFate::kSearched) reason = "a folder too deep to be searched", warning = true;
    const absl::StatusOr<PathInfo> mark = fs_.Stat(JoinPath(path, kExportMark));
    const bool own = kind.fate == FolderFate::kOwn || (mark.ok() && mark->is_regular);
    if (own) reason = "an output of q4", warning = false;
    std::string shown = name + "/";
    if (info.is_symlink) {
      shown += " (a link)";
    } else if (kind.fate != FolderFate::kHidden && !own) {
      const absl::StatusOr<std::uint64_t> count = CountFiles(path);
      if (!count.ok()) {
        shown += " (cannot be read)";
      } else if (*count == 0) {
        reason = "an empty folder", warning = false;
      } else {
        shown += *count > limits::kCountedFiles ? " (more than " + std::to_string(limits::kCountedFiles) + " files)"
                                                : " (" + Counted(*count, "file") + ")";
      }
    }
    left_out_.Add(folder, shown, reason, warning, /*recorded=*/!own && kind.fate != FolderFate::kHidden);
    return absl::OkStatus();
  }

  // All that is no folder, in all folders below. Links are counted and not followed.
  absl::StatusOr<std::uint64_t> CountFiles(const std::string& path) {
    std::uint64_t files = 0;
    std::vector<std::pair<std::string, int>> open = {{path, 1}};
    while (!open.empty()) {
      const auto [folder, depth] = std::move(open.back());
      open.pop_back();
      Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.ListDirectory(folder));
      for (const std::string& name : names) {
        if (files > limits::kCountedFiles) return files;
        Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(JoinPath(folder, name)));
        if (info.is_directory && !info.is_symlink && depth < limits::kCountedDepth) {
          open.emplace_back(JoinPath(folder, name), depth + 1);
        } else {
          ++files;
        }
      }
    }
    return files;
  }

  // Whether weights of this very folder are read.
  bool HasWeights(const std::string& folder) const {
    return std::any_of(taken_.begin(), taken_.end(), [&](const std::string& name) {
      return folder.empty() ? name.find('/') == std::string::npos : DirectoryOf(name) == folder;
    });
  }

  // Whether the model needs code is known when all configurations were found. Those of a folder are small and few.
  absl::Status AddCode() {
    for (const CompanionFile& companion : companions_) {
      if (!MayNeedCode(companion.name) || companion.size > limits::kConfigJsonBytes) continue;
      Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs_, companion.path, limits::kConfigJsonBytes));
      AddCodeNeeds(companion.name, text, &needs_);
    }
    for (const auto& [folder, name] : code_) {
      // Modules import each other, so that all of them may be needed.
      const bool needed = !needs_.files.empty() && name.ends_with(".py");
      left_out_.Add(folder, name, KindOfFile(name).reason, needed);
    }
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const std::string directory_;
  const std::set<std::string, std::less<>> taken_;  // relative names of weights that are read, and of the main file
  const SymbolicLinks links_;
  std::vector<std::string> modules_;
  std::vector<CompanionFile> companions_;
  PortableNames names_;                // of companions_
  std::uint64_t companion_bytes_ = 0;  // of all of them
  LeftOutList left_out_;
  std::vector<std::pair<std::string, std::string>> code_;  // folder and name
  CodeNeeds needs_;
};

// Of a folder that is not a model's: a note if a file lies in it that would be missed. What cannot be listed has none.
std::vector<Note> NotesOfOtherFolder(FileSystem& fs, const MainFile& main) {
  const absl::StatusOr<std::vector<std::string>> names = fs.ListDirectory(DirectoryOf(main.path));
  if (!names.ok()) return {};
  const bool has_tokenizer = std::any_of(names->begin(), names->end(), [](const std::string& name) {
    return KindOfFile(name).fate == FileFate::kCarried;
  });
  if (!has_tokenizer) return {};
  return {{false,
           "files beside the weights are not carried, as neither config.json nor params.json is among them; give "
           "the folder to take them"}};
}

// The folders of the model that are searched, as FolderSearch finds them. What cannot be read has none below it.
std::vector<std::string> SearchedFolders(FileSystem& fs, const std::string& directory) {
  const absl::StatusOr<std::vector<std::string>> modules = ModuleFolders(fs, directory, SymbolicLinks::kFollow);
  const std::vector<std::string> listed = modules.ok() ? *modules : std::vector<std::string>();
  std::vector<std::string> folders = {""};
  for (std::size_t i = 0; i < folders.size(); ++i) {
    const std::string folder = folders[i];
    const absl::StatusOr<std::vector<std::string>> names = fs.ListDirectory(PathOf(directory, folder));
    if (!names.ok()) continue;
    for (const std::string& name : *names) {
      const std::string relative = InFolder(folder, name);
      if (!IsSearched(listed, relative)) continue;
      const absl::StatusOr<PathInfo> info = fs.Stat(JoinPath(directory, relative));
      if (info.ok() && info->is_directory) folders.push_back(relative);
    }
  }
  return folders;
}

}  // namespace

absl::StatusOr<bool> IsModelDirectory(FileSystem& fs, const MainFile& main) {
  if (main.is_index || main.from_folder || BaseNameOf(main.path).starts_with("model")) return true;
  for (const std::string_view name : kConfigNames) {
    Q4_ASSIGN_OR_RETURN(const PathInfo config, fs.Stat(JoinPath(DirectoryOf(main.path), std::string(name))));
    if (config.exists || config.is_symlink) return true;
  }
  return false;
}

absl::StatusOr<ModelFolder> ClassifyFolder(FileSystem& fs, const MainFile& main, std::span<const std::string> weights,
                                           SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const bool is_model, IsModelDirectory(fs, main));
  if (!is_model) return ModelFolder{{}, {}, NotesOfOtherFolder(fs, main)};
  std::set<std::string, std::less<>> taken(weights.begin(), weights.end());
  // modules.json is the main file of a model whose weights all lie in module folders; it is carried all the same.
  if (const std::string name = BaseNameOf(main.path); !IsCompanionName(name)) taken.insert(name);
  return FolderSearch(fs, DirectoryOf(main.path), std::move(taken), links).Run();
}

bool MayBelongToModel(std::string_view name) { return IsCompanionName(name) || IsWeightName(name); }

absl::StatusOr<bool> WouldBeCompanion(FileSystem& fs, const MainFile& main, const std::string& path) {
  const std::string directory = DirectoryOf(main.path), name = BaseNameOf(path);
  Q4_ASSIGN_OR_RETURN(const bool is_model, IsModelDirectory(fs, main));
  Q4_ASSIGN_OR_RETURN(const bool beside, SamePlace(fs, path, JoinPath(directory, name)));
  if (beside && IsWeightName(name)) return true;
  if (!IsCompanionName(name)) return false;
  // The first configuration makes the directory a model's.
  if (beside) {
    return is_model || std::find(std::begin(kConfigNames), std::end(kConfigNames), name) != std::end(kConfigNames);
  }
  if (!is_model) return false;
  for (const std::string& folder : SearchedFolders(fs, directory)) {
    Q4_ASSIGN_OR_RETURN(const bool same, SamePlace(fs, path, JoinPath(directory, InFolder(folder, name))));
    if (same) return true;
  }
  return false;
}

}  // namespace q4
