// Removing goes from the leaves to the root, and what says whose a directory is goes last. A directory is held while
// things are removed from it, so that nobody can lead that elsewhere.
#include "formats/publish/leftover.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_directory.h"

namespace q4 {
namespace {

// RemoveTree() below a directory of this owner.
absl::Status RemoveTreeOf(FileSystem& fs, const std::string& path, std::uint32_t owner) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  // Stat() tells the kind of what a link leads to: without asking for the link first, its target would be emptied.
  if (info.is_symlink || !info.is_directory) return fs.Remove(path);
  if (info.owner != owner) {
    return Fail(kForeignOwner, path, {},
                GotExpected(fmt::format("owner {}", info.owner), fmt::format("owner {}", owner)));
  }
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(path));
  for (const std::string& name : names) Q4_RETURN_IF_ERROR(RemoveTreeOf(fs, JoinPath(path, name), owner));
  return fs.RemoveDirectory(path);
}

// Removes the directory `path`, which is held, if that is what lies there still.
absl::Status RemoveHeld(FileSystem& fs, const HeldDirectory& held, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.exists && !info.is_symlink) return absl::OkStatus();
  if (info.identity != held.identity()) return Fail(kCannotRemove, path, {}, "another directory has its name by now");
  return fs.RemoveDirectory(path);
}

// Names of files below a directory, as MarkReplaced() writes them; nullopt for anything else.
std::optional<std::vector<std::string>> ParseMark(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos || end == 0 || text.front() == '/') return std::nullopt;
    const std::string& name = names.emplace_back(text.substr(0, end));
    if (("/" + name + "/").find("/../") != std::string::npos) return std::nullopt;
    text.remove_prefix(end + 1);
  }
  return names;
}

}  // namespace

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status ClearPartial(FileSystem& fs, const std::string& partial, bool keep_records) {
  Q4_ASSIGN_OR_RETURN(const auto held, fs.Hold(partial));
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(partial));
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(partial));
  for (const std::string& name : names) {
    if (name == AtomicDirectory::kLockName || (keep_records && name == kLeftName)) continue;
    Q4_RETURN_IF_ERROR(RemoveTreeOf(fs, JoinPath(partial, name), info.owner));
  }
  return absl::OkStatus();
}

absl::Status RemovePartial(FileSystem& fs, const std::string& partial, std::unique_ptr<WritableFile> lock) {
  Q4_ASSIGN_OR_RETURN(const auto held, fs.Hold(partial));
  Q4_RETURN_IF_ERROR(CheckIsLeftover(fs, partial));  // of what is held: it may have been another one before
  Q4_RETURN_IF_ERROR(ClearPartial(fs, partial, /*keep_records=*/false));
  // Durable, so that after a power cut nothing comes back beside a lock that is gone. Where it cannot be told, the
  // directory goes all the same: it is of no use.
  absl::Status status = fs.SyncDirectory(partial);
  Q4_RETURN_IF_ERROR(fs.Remove(JoinPath(partial, AtomicDirectory::kLockName)));
  lock.reset();
  status.Update(RemoveHeld(fs, *held, partial));
  return status;
}

absl::Status CheckIsLeftover(FileSystem& fs, const std::string& partial) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(partial));
  if (!info.is_directory || info.is_symlink) return Fail(kForeignPartial, partial, {});
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(partial));
  if (!names.empty() && !Contains(names, AtomicDirectory::kLockName)) return Fail(kForeignPartial, partial, {});
  return fs.CheckOurs(partial, /*shared=*/false);
}

absl::Status MakeDirectory(FileSystem& fs, const std::string& path) {
  const absl::Status made = fs.CreateDirectory(path);
  if (IssueNumberOf(made) != kOutputExists.number) return made;
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_symlink || !info.is_directory) return made;
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(path));
  return names.empty() ? absl::OkStatus() : made;
}

absl::Status ClearLeftover(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.exists && !info.is_symlink) return absl::OkStatus();
  if (info.is_symlink || !info.is_directory) return Fail(kForeignPartial, path, {});
  Q4_ASSIGN_OR_RETURN(const auto held, fs.Hold(path));
  Q4_RETURN_IF_ERROR(CheckIsLeftover(fs, path));
  // A live run's is locked.
  Q4_ASSIGN_OR_RETURN(auto lock, fs.OpenLocked(JoinPath(path, AtomicDirectory::kLockName)));
  return RemovePartial(fs, path, std::move(lock));
}

absl::Status MarkReplaced(FileSystem& fs, const std::string& root, const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text.append(name).push_back('\0');
  const std::string path = JoinPath(root, kReplacedName);
  Q4_RETURN_IF_ERROR(fs.Remove(path));  // of a run that died before it went on
  Q4_ASSIGN_OR_RETURN(const auto file, fs.CreateExclusive(path));
  Q4_RETURN_IF_ERROR(file->WriteAt(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  Q4_RETURN_IF_ERROR(file->Sync());
  Q4_RETURN_IF_ERROR(file->Close());
  return fs.SyncDirectory(root);
}

bool IsReplaced(FileSystem& fs, const std::string& path) {
  const absl::StatusOr<PathInfo> info = fs.Stat(path);
  if (!info.ok() || info->is_symlink || !info->is_directory) return false;
  const absl::StatusOr<PathInfo> mark = fs.Stat(JoinPath(path, kReplacedName));
  return mark.ok() && mark->is_regular && !mark->is_symlink;
}

absl::Status RemoveReplaced(FileSystem& fs, const std::string& root) {
  Q4_ASSIGN_OR_RETURN(const auto held, fs.Hold(root));
  // Others may write to it where the user lets them: only what is named goes, and by way of no link.
  Q4_RETURN_IF_ERROR(fs.CheckOurs(root, /*shared=*/true));
  const std::string mark = JoinPath(root, kReplacedName);
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, mark, limits::kQ4IndexBytes, SymbolicLinks::kNever));
  const std::optional<std::vector<std::string>> names = ParseMark(text);
  if (!names) return Fail(kForeignPartial, mark, {});
  std::vector<std::string> directories;
  for (const std::string& name : *names) {
    Q4_RETURN_IF_ERROR(fs.Remove(JoinPath(root, name)));
    for (std::size_t slash = name.rfind('/'); slash != std::string::npos && slash != 0;
         slash = name.rfind('/', slash - 1)) {
      directories.push_back(name.substr(0, slash));
    }
  }
  // The innermost first: a directory's name is a prefix of those below it. What is left in one is somebody's.
  std::sort(directories.rbegin(), directories.rend());
  directories.erase(std::unique(directories.begin(), directories.end()), directories.end());
  for (const std::string& name : directories) {
    const absl::Status removed = fs.RemoveDirectory(JoinPath(root, name));
    if (removed.ok()) continue;
    Q4_ASSIGN_OR_RETURN(const auto left, fs.ListDirectory(JoinPath(root, name)));
    if (left.empty()) return removed;
  }
  // What dead runs left in it, if anything, and then what says whose it is.
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(root));
  Q4_ASSIGN_OR_RETURN(const auto left, fs.ListDirectory(root));
  for (const std::string& name : left) {
    if (name == kReplacedName || name == AtomicDirectory::kLockName) continue;
    if (!AtomicDirectory::IsOwnName(name)) {
      return Fail(kForeignPartial, root, name, "somebody put it into an output that was replaced; move it away");
    }
    Q4_RETURN_IF_ERROR(RemoveTreeOf(fs, JoinPath(root, name), info.owner));
  }
  Q4_RETURN_IF_ERROR(fs.Remove(JoinPath(root, AtomicDirectory::kLockName)));
  absl::Status status = fs.SyncDirectory(root);
  Q4_RETURN_IF_ERROR(fs.Remove(mark));
  status.Update(RemoveHeld(fs, *held, root));
  return status;
}

absl::Status RemoveAside(FileSystem& fs, const std::string& aside, const std::string& partial) {
  if (!IsReplaced(fs, aside)) return absl::OkStatus();
  Q4_RETURN_IF_ERROR(fs.CheckOurs(aside, /*shared=*/true));
  Q4_RETURN_IF_ERROR(fs.Rename(aside, partial, false));
  return RemoveReplaced(fs, partial);
}

absl::Status RemoveTree(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_symlink || !info.is_directory) return fs.Remove(path);
  Q4_ASSIGN_OR_RETURN(const auto held, fs.Hold(path));
  return RemoveTreeOf(fs, path, info.owner);
}

}  // namespace q4
