// Texts are compared, not resolved: the directory of the link is canonical, so ".." in it means what it says, and a
// link of any other form than the library's own is not followed even if it led to the same file.
#include "formats/names/hub_cache.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

constexpr std::array<std::string_view, 4> kRepositoryKinds = {"models--", "datasets--", "spaces--", "kernels--"};
constexpr std::string_view kStoreMarker = ".huggingface-shared-blobs", kStoreVersion = "1\n";
constexpr std::size_t kHashDigits = 64;

bool IsRepositoryName(std::string_view name) {
  return std::any_of(kRepositoryKinds.begin(), kRepositoryKinds.end(),
                     [name](std::string_view kind) { return name.starts_with(kind) && name.size() > kind.size(); });
}

bool IsHash(std::string_view name) {
  return name.size() == kHashDigits && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Where a link in a snapshot lies.
struct SnapshotPlace {
  std::string repository;  // "/.../models--org--name"; "" for no place in a snapshot
  int levels = 0;          // of directories below it: "snapshots", the revision, and those in the snapshot
};

// `directory` is canonical. The innermost "snapshots" counts: that of a repository within a snapshot is its own.
SnapshotPlace FindRepository(std::string directory) {
  for (int levels = 1; directory.size() > 1; ++levels) {
    const std::string name = BaseNameOf(directory), parent = DirectoryOf(directory);
    if (name == "snapshots" && levels >= 2 && IsRepositoryName(BaseNameOf(parent))) return {parent, levels};
    directory = parent;
  }
  return {};
}

// What follows `levels` times "../" and then `rest` in the text of a link; "" unless it is a plain name.
std::string_view PlainNameBehind(std::string_view link, int levels, std::string_view rest) {
  for (int i = 0; i < levels; ++i) {
    if (!link.starts_with("../")) return {};
    link.remove_prefix(3);
  }
  if (!link.starts_with(rest)) return {};
  link.remove_prefix(rest.size());
  return link.find('/') != std::string_view::npos || link.starts_with('.') ? std::string_view() : link;
}

absl::StatusOr<bool> IsRealDirectory(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  return info.is_directory && !info.is_symlink;
}

// What the link at `blob`, in the blobs of a repository of the cache `cache`, stands for in the shared store.
absl::StatusOr<std::string> SharedFile(FileSystem& fs, const std::string& cache, const std::string& blob) {
  Q4_ASSIGN_OR_RETURN(const std::string link, fs.ReadLink(blob));
  const std::string hash = BaseNameOf(link), prefix = hash.substr(0, 2);
  if (!IsHash(hash) || link != "../../blobs/" + prefix + "/" + hash) return std::string();
  const std::string store = cache + "/blobs", directory = store + "/" + prefix, file = directory + "/" + hash;
  for (const std::string& path : {store, directory}) {
    Q4_ASSIGN_OR_RETURN(const bool real, IsRealDirectory(fs, path));
    if (!real) return std::string();
  }
  // A directory that merely has that name is no store, to the library neither.
  const auto marker =
      ReadWholeFile(fs, store + "/" + std::string(kStoreMarker), kStoreVersion.size(), SymbolicLinks::kNever);
  if (!marker.ok() || *marker != kStoreVersion) return std::string();
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(file));
  return info.is_symlink ? std::string() : file;
}

}  // namespace

absl::StatusOr<std::string> HubCacheFile(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const std::string directory, fs.RealPath(DirectoryOf(path)));
  const SnapshotPlace place = FindRepository(directory);
  if (place.repository.empty()) return std::string();
  Q4_ASSIGN_OR_RETURN(const std::string link, fs.ReadLink(path));
  const std::string_view name = PlainNameBehind(link, place.levels, "blobs/");
  if (name.empty()) return std::string();
  const std::string blobs = place.repository + "/blobs", blob = blobs + "/" + std::string(name);
  Q4_ASSIGN_OR_RETURN(const bool real, IsRealDirectory(fs, blobs));
  if (!real) return std::string();
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(blob));
  return info.is_symlink ? SharedFile(fs, DirectoryOf(place.repository), blob) : blob;
}

absl::Status MayFollow(FileSystem& fs, const std::string& path, SymbolicLinks links) {
  if (links == SymbolicLinks::kFollow) return absl::OkStatus();
  if (links == SymbolicLinks::kRefuse) {
    Q4_ASSIGN_OR_RETURN(const std::string file, HubCacheFile(fs, path));
    if (!file.empty()) return absl::OkStatus();
  }
  return Fail(kSymbolicLink, path, {});
}

}  // namespace q4
