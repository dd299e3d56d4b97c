// Order of things: Create makes the partial directory and takes the lock, files are created below it, Publish syncs
// from the innermost directory outwards and renames.
//
// The lock is a file inside the partial directory. It moves with the directory and is removed only after the rename:
// were it removed before, another writer could take over a directory that is about to be published.
#include "formats/base/atomic_directory.h"

#include <algorithm>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

// Everything in `directory` but the lock.
absl::Status Clear(FileSystem& fs, const std::string& directory) {
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(directory));
  for (const std::string& name : names) {
    if (name != AtomicDirectory::kLockName) Q4_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(directory, name)));
  }
  return absl::OkStatus();
}

// What a dead run leaves has the lock in it, or nothing at all if it died before that. Anything else may be the user's,
// and clearing it would destroy it.
absl::Status CheckIsLeftover(FileSystem& fs, const std::string& partial) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(partial));
  if (!info.is_directory || info.is_symlink) return Fail(kForeignPartial, partial, {});
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(partial));
  const bool ours = names.empty() || std::find(names.begin(), names.end(), AtomicDirectory::kLockName) != names.end();
  return ours ? absl::OkStatus() : Fail(kForeignPartial, partial, {});
}

}  // namespace

absl::Status RemoveTree(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  // Stat() tells the kind of what a link leads to: without asking for the link first, its target would be emptied.
  if (info.is_symlink || !info.is_directory) return fs.Remove(path);
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(path));
  for (const std::string& name : names) Q4_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(path, name)));
  return fs.RemoveDirectory(path);
}

AtomicDirectory::AtomicDirectory(FileSystem& fs, std::string path, bool replace)
    : fs_(fs), path_(std::move(path)), partial_path_(path_ + ".partial"), replace_(replace) {}

absl::StatusOr<std::unique_ptr<AtomicDirectory>> AtomicDirectory::Create(FileSystem& fs, const std::string& path,
                                                                         bool replace) {
  // An early answer for the user; what decides is the rename. Replacing is refused for what is no directory, because
  // --force of a directory must not remove a file.
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if ((info.exists || info.is_symlink) && !replace) return Fail(kOutputExists, path, {});
  if (info.is_symlink || (info.exists && !info.is_directory)) return Fail(kOutputNotADirectory, path, {});

  std::unique_ptr<AtomicDirectory> directory(new AtomicDirectory(fs, path, replace));
  const std::string& partial = directory->partial_path_;
  // Making the directory is the test: two runs that both looked first would both find it absent.
  if (const absl::Status made = fs.CreateDirectory(partial); !made.ok()) {
    if (IssueNumberOf(made) != kOutputExists.number) return made;
    Q4_RETURN_IF_ERROR(CheckIsLeftover(fs, partial));
  }
  Q4_ASSIGN_OR_RETURN(directory->lock_, fs.OpenLocked(JoinPath(partial, kLockName)));
  // Only under the lock: a live run's files are never cleared.
  Q4_RETURN_IF_ERROR(Clear(fs, partial));
  return directory;
}

AtomicDirectory::~AtomicDirectory() {
  // Without lock_ the partial directory belongs to somebody else. An error has nobody to be told: the next run clears
  // it.
  if (lock_ != nullptr && !published_) RemoveTree(fs_, partial_path_).IgnoreError();
}

// Makes the directories on the way to `name` that this object has not made yet, the outermost first.
absl::Status AtomicDirectory::MakeParents(const std::string& name) {
  for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const std::string parent = name.substr(0, slash);
    if (std::find(subdirectories_.begin(), subdirectories_.end(), parent) != subdirectories_.end()) continue;
    Q4_RETURN_IF_ERROR(fs_.CreateDirectory(JoinPath(partial_path_, parent)));
    subdirectories_.push_back(parent);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WritableFile>> AtomicDirectory::CreateFile(const std::string& name) {
  Q4_RETURN_IF_ERROR(MakeParents(name));
  return fs_.CreateExclusive(JoinPath(partial_path_, name));
}

absl::Status AtomicDirectory::WriteFile(const std::string& name, std::string_view content) {
  Q4_ASSIGN_OR_RETURN(const auto file, CreateFile(name));
  Q4_RETURN_IF_ERROR(file->WriteAt(0, {reinterpret_cast<const std::uint8_t*>(content.data()), content.size()}));
  Q4_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

// The files were synced by those who wrote them; here their names become durable. A directory is synced after those
// below it, and the rename comes when nothing of the new content can be lost any more.
absl::Status AtomicDirectory::Publish() {
  for (auto name = subdirectories_.rbegin(); name != subdirectories_.rend(); ++name) {
    Q4_RETURN_IF_ERROR(fs_.SyncDirectory(JoinPath(partial_path_, *name)));
  }
  Q4_RETURN_IF_ERROR(fs_.SyncDirectory(partial_path_));

  // A rename cannot replace a directory that holds files, so the old one steps aside first.
  const std::string aside = AsidePath(path_);
  Q4_ASSIGN_OR_RETURN(const PathInfo old, fs_.Stat(path_));
  const bool replaces = replace_ && old.exists;
  if (replaces) {
    Q4_RETURN_IF_ERROR(RemoveTree(fs_, aside));
    Q4_RETURN_IF_ERROR(fs_.Rename(path_, aside, false));
  }
  if (const absl::Status renamed = fs_.Rename(partial_path_, path_, false); !renamed.ok()) {
    // The old directory gets its name back. If that fails as well it is safe under the name `aside`.
    if (replaces) fs_.Rename(aside, path_, false).IgnoreError();
    return renamed;
  }
  // From here on the destructor must leave everything alone. Errors below are reported, but the new content is in
  // place.
  published_ = true;
  Q4_RETURN_IF_ERROR(fs_.Remove(JoinPath(path_, kLockName)));
  Q4_RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(path_)));
  return replaces ? RemoveTree(fs_, aside) : absl::OkStatus();
}

}  // namespace q4
