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

// What a dead run leaves has the lock in it, or nothing at all if it died before that.
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
  if (info.is_symlink || !info.is_directory) return fs.Remove(path);
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(path));
  for (const std::string& name : names) Q4_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(path, name)));
  return fs.RemoveDirectory(path);
}

AtomicDirectory::AtomicDirectory(FileSystem& fs, std::string path, bool replace)
    : fs_(fs), path_(std::move(path)), partial_path_(path_ + ".partial"), replace_(replace) {}

absl::StatusOr<std::unique_ptr<AtomicDirectory>> AtomicDirectory::Create(FileSystem& fs, const std::string& path,
                                                                         bool replace) {
  // An early answer for the user; what decides is the rename.
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if ((info.exists || info.is_symlink) && !replace) return Fail(kOutputExists, path, {});
  if (info.is_symlink || (info.exists && !info.is_directory)) return Fail(kOutputNotADirectory, path, {});

  std::unique_ptr<AtomicDirectory> directory(new AtomicDirectory(fs, path, replace));
  const std::string& partial = directory->partial_path_;
  if (const absl::Status made = fs.CreateDirectory(partial); !made.ok()) {
    if (IssueNumberOf(made) != kOutputExists.number) return made;
    Q4_RETURN_IF_ERROR(CheckIsLeftover(fs, partial));
  }
  Q4_ASSIGN_OR_RETURN(directory->lock_, fs.OpenLocked(JoinPath(partial, kLockName)));
  Q4_RETURN_IF_ERROR(Clear(fs, partial));
  return directory;
}

AtomicDirectory::~AtomicDirectory() {
  // Without lock_ the partial directory belongs to somebody else.
  if (lock_ != nullptr && !published_) RemoveTree(fs_, partial_path_).IgnoreError();
}

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
    if (replaces) fs_.Rename(aside, path_, false).IgnoreError();
    return renamed;
  }
  published_ = true;
  Q4_RETURN_IF_ERROR(fs_.Remove(JoinPath(path_, kLockName)));
  Q4_RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(path_)));
  return replaces ? RemoveTree(fs_, aside) : absl::OkStatus();
}

}  // namespace q4
