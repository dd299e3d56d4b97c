// Removing goes from the leaves to the root, and what says whose a directory is goes last.
#include "formats/publish/leftover.h"

#include <algorithm>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_directory.h"

namespace q4 {

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status ClearPartial(FileSystem& fs, const std::string& partial, bool keep_records) {
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(partial));
  for (const std::string& name : names) {
    if (name == AtomicDirectory::kLockName || (keep_records && name == kLeftName)) continue;
    Q4_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(partial, name)));
  }
  return absl::OkStatus();
}

absl::Status RemovePartial(FileSystem& fs, const std::string& partial, std::unique_ptr<WritableFile> lock) {
  Q4_RETURN_IF_ERROR(ClearPartial(fs, partial, /*keep_records=*/false));
  // Durable, so that after a power cut nothing comes back beside a lock that is gone. Where it cannot be told, the
  // directory goes all the same: it is of no use.
  absl::Status status = fs.SyncDirectory(partial);
  Q4_RETURN_IF_ERROR(fs.Remove(JoinPath(partial, AtomicDirectory::kLockName)));
  lock.reset();
  status.Update(fs.RemoveDirectory(partial));
  return status;
}

absl::Status CheckIsLeftover(FileSystem& fs, const std::string& partial) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(partial));
  if (!info.is_directory || info.is_symlink) return Fail(kForeignPartial, partial, {});
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(partial));
  return names.empty() || Contains(names, AtomicDirectory::kLockName) ? absl::OkStatus()
                                                                      : Fail(kForeignPartial, partial, {});
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
  Q4_RETURN_IF_ERROR(CheckIsLeftover(fs, path));
  return RemovePartial(fs, path, nullptr);
}

absl::Status RemoveNamed(FileSystem& fs, const std::string& root, const std::vector<std::string>& names) {
  std::vector<std::string> directories;
  for (const std::string& name : names) {
    Q4_RETURN_IF_ERROR(fs.Remove(JoinPath(root, name)));
    for (std::size_t slash = name.rfind('/'); slash != std::string::npos && slash != 0;
         slash = name.rfind('/', slash - 1)) {
      directories.push_back(name.substr(0, slash));
    }
  }
  // The innermost first: a directory's name is a prefix of those below it.
  std::sort(directories.rbegin(), directories.rend());
  directories.erase(std::unique(directories.begin(), directories.end()), directories.end());
  for (const std::string& name : directories) Q4_RETURN_IF_ERROR(fs.RemoveDirectory(JoinPath(root, name)));
  // What dead runs left in it, if anything, and then the lock.
  Q4_ASSIGN_OR_RETURN(const auto left, fs.ListDirectory(root));
  for (const std::string& name : left) {
    const bool own = AtomicDirectory::IsOwnName(name) && name != AtomicDirectory::kLockName;
    if (own) Q4_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(root, name)));
  }
  Q4_RETURN_IF_ERROR(fs.Remove(JoinPath(root, AtomicDirectory::kLockName)));
  return fs.RemoveDirectory(root);
}

absl::Status RemoveTree(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  // Stat() tells the kind of what a link leads to: without asking for the link first, its target would be emptied.
  if (info.is_symlink || !info.is_directory) return fs.Remove(path);
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(path));
  for (const std::string& name : names) Q4_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(path, name)));
  return fs.RemoveDirectory(path);
}

}  // namespace q4
