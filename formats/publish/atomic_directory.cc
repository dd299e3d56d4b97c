// Order of things: Create makes the partial directory, takes the lock and tries how to publish; files are created in
// it; Publish (publish_directory.cc) syncs from the innermost directory outwards and renames. The name of the lock is
// durable before any other in the directory and goes after them, so that also after a power cut a leftover is known for
// ours.
//
// The lock is a file inside the partial directory. It moves with the directory and is removed only after the rename:
// were it removed before, another writer could take over a directory that is about to be published. It also is what a
// dead run's directories are known by. An old directory gets a mark before it changes places with the new one, by which
// a later run knows what of it may go.
#include "formats/publish/atomic_directory.h"

#include <algorithm>
#include <set>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_file.h"
#include "formats/publish/leftover.h"

namespace q4 {
namespace {

// In a destination that stays. Its partial directory is InsideBase() + ".partial".
constexpr std::string_view kInsideName = ".q4";
constexpr std::string_view kPartialEnd = ".partial";
constexpr char kProbeName[] = ".q4-probe";

std::string InsideBase(const std::string& path) { return JoinPath(path, std::string(kInsideName)); }

// "." and ".." stay whatever happens, and so does the root; a name beside them would lie elsewhere.
bool HasOwnName(const std::string& path) {
  const std::string name = BaseNameOf(path);
  return !name.empty() && name != "." && name != "..";
}

}  // namespace

bool AtomicDirectory::IsOwnName(std::string_view name) {
  return name == kLockName || name == kProbeName || name == kLeftName || name == kReplacedName ||
         (name.starts_with(std::string(kInsideName) + ".") && name.ends_with(kPartialEnd));
}

absl::Status AtomicDirectory::Restore(FileSystem& fs, const std::string& path) {
  const std::string aside = AsidePath(path);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.exists || info.is_symlink || !IsReplaced(fs, aside)) return absl::OkStatus();
  Q4_RETURN_IF_ERROR(fs.CheckOurs(aside, /*shared=*/true));
  Q4_RETURN_IF_ERROR(fs.Rename(aside, path, false));
  return fs.Remove(JoinPath(path, kReplacedName));
}

absl::StatusOr<std::vector<std::string>> AtomicDirectory::Leftovers(FileSystem& fs, const std::string& path) {
  std::vector<std::string> found;
  const auto add = [&](const std::string& directory, const std::string& begin) -> absl::Status {
    Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(directory));
    for (const std::string& name : names) {
      if (!name.starts_with(begin + ".") || !name.ends_with(kPartialEnd)) continue;
      const std::string partial = JoinPath(directory, name);
      if (IsReplaced(fs, partial) || !CheckIsLeftover(fs, partial).ok()) continue;
      found.push_back(partial);
      const std::string left = JoinPath(partial, kLeftName);
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(left));
      if (info.is_symlink || !info.is_directory) continue;
      Q4_ASSIGN_OR_RETURN(const auto kept, fs.ListDirectory(left));
      for (const std::string& number : kept) found.push_back(JoinPath(left, number));
    }
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(add(path, std::string(kInsideName)));
  // The directory above may be closed to us; then no run of ours has left anything there.
  if (HasOwnName(path)) add(DirectoryOf(path), BaseNameOf(path)).IgnoreError();
  return found;
}

absl::StatusOr<std::vector<std::string>> AtomicDirectory::Cleared(FileSystem& fs, const std::string& path) {
  std::vector<std::string> directories = {AtomicFile::PartialPath(InsideBase(path))};
  if (HasOwnName(path)) {
    const std::string partial = AtomicFile::PartialPath(path);
    directories.insert(directories.end(), {partial, AtomicFile::ProbePath(partial), AsidePath(path)});
  }
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.is_directory) return directories;
  Q4_ASSIGN_OR_RETURN(const auto leftovers, Leftovers(fs, path));
  directories.insert(directories.end(), leftovers.begin(), leftovers.end());
  return directories;
}

absl::StatusOr<std::unique_ptr<AtomicDirectory>> AtomicDirectory::Create(FileSystem& fs, const std::string& path,
                                                                         const DirectoryUse& use) {
  // An early answer for the user; what decides is the rename. Replacing is refused for what is no directory, because
  // --force of a directory must not remove a file.
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if ((info.exists || info.is_symlink) && !use.may_exist) return Fail(kOutputExists, path, {});
  if (info.is_symlink || (info.exists && !info.is_directory)) return Fail(kOutputNotADirectory, path, {});

  std::unique_ptr<AtomicDirectory> directory(new AtomicDirectory(fs, path, info.exists));
  if (info.exists) {
    Q4_ASSIGN_OR_RETURN(directory->destination_, fs.Hold(path));
  }
  directory->resumes_ = use.resumes;
  directory->whole_ = !use.keep_others && HasOwnName(path);
  if (directory->whole_) {
    absl::Status tried = directory->MakePartial(path, use.kept_record);
    // Somebody else's directory stays what and whose it is.
    bool ours = true;
    if (tried.ok() && info.exists) {
      Q4_ASSIGN_OR_RETURN(const PathInfo mine, fs.Stat(directory->partial_path_));
      ours = info.owner == mine.owner;
    }
    if (tried.ok() && ours) tried = directory->TryDirectories();
    if (tried.ok() && info.exists) tried = directory->TryFiles();
    if (tried.ok() && ours) return directory;
    const int issue = IssueNumberOf(tried);
    // What another run or a stranger is in the way of stays an error, and so does a parent that is not there.
    if (issue == kOutputInUse.number || issue == kForeignPartial.number || issue == kForeignOwner.number) return tried;
    if (!info.exists && issue != kCannotRename.number) return tried;
  }
  Q4_RETURN_IF_ERROR(directory->GoInside(use.kept_record));
  return directory;
}

// Makes and locks base.partial; where there are no locks, one of a random name.
absl::Status AtomicDirectory::MakePartial(const std::string& base, const std::string& kept_record) {
  std::string partial = AtomicFile::PartialPath(base);
  // An old directory that a run had replaced when it died: what of it may go, goes.
  if (IsReplaced(fs_, partial)) Q4_RETURN_IF_ERROR(RemoveReplaced(fs_, partial));
  if (base == path_ && exists_) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(partial));
    if (!info.exists && !info.is_symlink) Q4_RETURN_IF_ERROR(RemoveAside(fs_, AsidePath(path_), partial));
  }
  // Making the directory is the test: two runs that both looked first would both find it absent.
  const absl::Status made = fs_.CreateDirectory(partial);
  if (!made.ok() && IssueNumberOf(made) != kOutputExists.number) return made;
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(partial));
  if (!info.is_directory || info.is_symlink) return Fail(kForeignPartial, partial, {});
  Q4_ASSIGN_OR_RETURN(partial_, fs_.Hold(partial));
  // Asked also of one that was just made: where others may rename, another may have its name.
  Q4_RETURN_IF_ERROR(CheckIsLeftover(fs_, partial));
  absl::StatusOr<std::unique_ptr<WritableFile>> lock = fs_.OpenLocked(JoinPath(partial, kLockName));
  if (IssueNumberOf(lock.status()) == kCannotLock.number) {
    if (made.ok()) Q4_RETURN_IF_ERROR(fs_.RemoveDirectory(partial));
    partial = UniquePartialPath(base);
    Q4_RETURN_IF_ERROR(MakeDirectory(fs_, partial));
    Q4_ASSIGN_OR_RETURN(partial_, fs_.Hold(partial));
    Q4_RETURN_IF_ERROR(CheckIsLeftover(fs_, partial));
    lock = fs_.CreateExclusive(JoinPath(partial, kLockName));
  }
  if (!lock.ok()) {
    if (made.ok()) fs_.RemoveDirectory(partial).IgnoreError();
    return lock.status();
  }
  lock_ = *std::move(lock);
  locked_ = lock_->locked();
  partial_path_ = std::move(partial);
  Q4_RETURN_IF_ERROR(fs_.SyncDirectory(partial_path_));
  Q4_RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(partial_path_)));
  // Only under the lock: a live run's files are never cleared.
  if (!kept_record.empty()) Q4_RETURN_IF_ERROR(KeepRecord(kept_record));
  if (resumes_ && locked_) return absl::OkStatus();
  return ClearPartial(fs_, partial_path_, keeps_records_);
}

// What lies in the partial directory below `inside` and is no file of this run.
absl::Status AtomicDirectory::RemoveOthers(const std::string& inside) {
  const std::string directory = inside.empty() ? partial_path_ : JoinPath(partial_path_, inside);
  Q4_ASSIGN_OR_RETURN(const auto names, fs_.ListDirectory(directory));
  for (const std::string& entry : names) {
    if (inside.empty() && (entry == kLockName || (keeps_records_ && entry == kLeftName))) continue;
    const std::string name = inside.empty() ? entry : inside + "/" + entry;
    if (Contains(files_, name)) continue;
    if (Contains(subdirectories_, name)) {
      Q4_RETURN_IF_ERROR(RemoveOthers(name));
    } else {
      Q4_RETURN_IF_ERROR(RemoveTree(fs_, JoinPath(partial_path_, name)));
    }
  }
  return absl::OkStatus();
}

// Moves the record that a dead run left out of the way of the one of this run. Those that it kept itself stay.
absl::Status AtomicDirectory::KeepRecord(const std::string& name) {
  keeps_records_ = true;
  const std::string record = JoinPath(partial_path_, name);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(record));
  if (info.is_symlink || !info.is_regular) return absl::OkStatus();
  const std::string left = JoinPath(partial_path_, kLeftName);
  Q4_ASSIGN_OR_RETURN(const PathInfo old, fs_.Stat(left));
  if (!old.is_directory || old.is_symlink) Q4_RETURN_IF_ERROR(MakeDirectory(fs_, left));
  Q4_ASSIGN_OR_RETURN(const auto numbers, fs_.ListDirectory(left));
  const std::string place = JoinPath(left, std::to_string(numbers.size()));
  Q4_RETURN_IF_ERROR(MakeDirectory(fs_, place));
  Q4_RETURN_IF_ERROR(fs_.Rename(record, JoinPath(place, name), false));
  for (const std::string& directory : {place, left, partial_path_}) Q4_RETURN_IF_ERROR(fs_.SyncDirectory(directory));
  return absl::OkStatus();
}

// Whether a directory with an open file in it can be renamed here, to and fro. Where there is one to be replaced:
// whether it can change places with this, or else step aside.
absl::Status AtomicDirectory::TryDirectories() {
  const std::string probe = AtomicFile::ProbePath(partial_path_);
  Q4_RETURN_IF_ERROR(ClearLeftover(fs_, probe));
  // A run that is killed while they have another name loses them; publishing goes another way where this one fails.
  if (keeps_records_) return absl::OkStatus();
  if (exists_) {
    Q4_RETURN_IF_ERROR(MakeDirectory(fs_, probe));
    const bool exchanged = fs_.Exchange(partial_path_, probe).ok();
    const absl::Status back = exchanged ? fs_.Exchange(partial_path_, probe) : absl::OkStatus();
    if (!back.ok()) MovePartialTo(probe);  // to be removed there
    Q4_RETURN_IF_ERROR(back);
    Q4_RETURN_IF_ERROR(fs_.RemoveDirectory(probe));
    if (exchanged) return absl::OkStatus();
    const std::string aside = AsidePath(path_);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(aside));
    if ((info.exists || info.is_symlink) && !IsReplaced(fs_, aside)) return Fail(kForeignPartial, aside, {});
  }
  Q4_RETURN_IF_ERROR(fs_.Rename(partial_path_, probe, false));
  const absl::Status back = fs_.Rename(probe, partial_path_, false);
  if (!back.ok()) MovePartialTo(probe);
  return back;
}

void AtomicDirectory::MovePartialTo(const std::string& path) {
  partial_path_ = path;
  partial_->MovedTo(path);
}

// Whether a file can be renamed from the partial directory into the destination: not across a mount point.
absl::Status AtomicDirectory::TryFiles() {
  const std::string from = JoinPath(partial_path_, kProbeName);
  const std::string to = JoinPath(path_, kProbeName);
  Q4_ASSIGN_OR_RETURN(const PathInfo old, fs_.Stat(to));
  if (old.exists || old.is_symlink) {
    if (!old.is_regular || old.is_symlink || old.size != 0) return Fail(kForeignPartial, to, {});
    Q4_RETURN_IF_ERROR(fs_.CheckOurs(to, /*shared=*/true));
    Q4_RETURN_IF_ERROR(fs_.Remove(to));
  }
  // Where a dead run's files stay, its probe may be among them.
  if (resumes_) Q4_RETURN_IF_ERROR(fs_.Remove(from));
  Q4_ASSIGN_OR_RETURN(const auto file, fs_.CreateExclusive(from));
  Q4_RETURN_IF_ERROR(file->Sync());
  if (const absl::Status renamed = fs_.Rename(from, to, false); !renamed.ok()) {
    fs_.Remove(from).IgnoreError();
    return renamed;
  }
  return fs_.Remove(to);
}

// From the partial directory beside the destination, if there is one, to one inside it.
absl::Status AtomicDirectory::GoInside(const std::string& kept_record) {
  if (lock_ != nullptr) {
    Q4_RETURN_IF_ERROR(RemoveOwnPartial());
  }
  whole_ = false;
  if (!exists_) {
    Q4_RETURN_IF_ERROR(MakeDirectory(fs_, path_));
    exists_ = made_path_ = true;
    Q4_ASSIGN_OR_RETURN(destination_, fs_.Hold(path_));
  }
  Q4_RETURN_IF_ERROR(MakePartial(InsideBase(path_), kept_record));
  if (!locked_) {
    // Two runs that publish file by file would mix, and only a lock tells a dead one from a living one.
    Q4_ASSIGN_OR_RETURN(const auto names, fs_.ListDirectory(path_));
    for (const std::string& name : names) {
      const std::string other = JoinPath(path_, name);
      if (IsOwnName(name) && name.ends_with(kPartialEnd) && other != partial_path_) {
        return Fail(kOutputInUse, path_, name, "or left by a dead run, and then to be removed by hand: no locks here");
      }
    }
  }
  const absl::Status tried = TryFiles();
  return IssueNumberOf(tried) == kCannotRename.number ? Fail(kCannotPublish, path_, {}, MessageOf(tried)) : tried;
}

AtomicDirectory::~AtomicDirectory() {
  // Without lock_ the partial directory belongs to somebody else. An error has nobody to be told: the next run clears
  // it.
  if (lock_ != nullptr && !published_ && !keep_partial_) RemoveOwnPartial().IgnoreError();
  if (made_path_ && !published_) fs_.RemoveDirectory(path_).IgnoreError();
}

// With records of dead runs in it, the directory stays, and what is to be kept is in it alone.
absl::Status AtomicDirectory::RemoveOwnPartial() {
  if (!keeps_records_) return RemovePartial(fs_, partial_path_, std::move(lock_));
  Q4_RETURN_IF_ERROR(ClearPartial(fs_, partial_path_, /*keep_records=*/true));
  lock_.reset();
  return absl::OkStatus();
}

// Makes the directories on the way to `name` below `root` that are not among `made` yet, the outermost first. One that
// exists is taken as it is: a server whose reply got lost says so of the one that it has just made.
absl::Status AtomicDirectory::MakeParents(const std::string& root, const std::string& name,
                                          std::vector<std::string>* made, std::vector<std::string>* created) {
  for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const std::string parent = name.substr(0, slash);
    if (Contains(*made, parent)) continue;
    if (const absl::Status status = fs_.CreateDirectory(JoinPath(root, parent)); !status.ok()) {
      if (IssueNumberOf(status) != kOutputExists.number) return status;
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(JoinPath(root, parent)));
      if (info.is_symlink || !info.is_directory) return status;
    } else if (created != nullptr) {
      created->push_back(parent);
    }
    made->push_back(parent);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WritableFile>> AtomicDirectory::CreateFile(const std::string& name) {
  Q4_ASSIGN_OR_RETURN(const std::string path, PathFor(name));
  // Of the run before: written again, as it may have been cut off.
  if (resumes_ && !Contains(files_, name)) Q4_RETURN_IF_ERROR(RemoveTree(fs_, path));
  Q4_ASSIGN_OR_RETURN(auto file, fs_.CreateExclusive(path));
  files_.push_back(name);
  return file;
}

absl::StatusOr<std::string> AtomicDirectory::PathFor(const std::string& name) {
  Q4_RETURN_IF_ERROR(MakeParents(partial_path_, name, &subdirectories_, nullptr));
  return JoinPath(partial_path_, name);
}

absl::Status AtomicDirectory::Adopt(const std::string& name) {
  Q4_ASSIGN_OR_RETURN(const std::string path, PathFor(name));
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(path));
  if (info.is_symlink || !info.is_regular) return Fail(kForeignPartial, path, {}, "no regular file");
  files_.push_back(name);
  return absl::OkStatus();
}

absl::Status AtomicDirectory::WriteFile(const std::string& name, std::string_view content) {
  Q4_ASSIGN_OR_RETURN(const auto file, CreateFile(name));
  Q4_RETURN_IF_ERROR(file->WriteAt(0, {reinterpret_cast<const std::uint8_t*>(content.data()), content.size()}));
  Q4_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> AtomicDirectory::OpenFile(const std::string& name) const {
  return fs_.OpenForRead(JoinPath(partial_path_, name), SymbolicLinks::kNever);
}

// A directory is synced after those below it.
absl::Status AtomicDirectory::SyncTree(const std::string& root) const {
  for (auto name = subdirectories_.rbegin(); name != subdirectories_.rend(); ++name) {
    Q4_RETURN_IF_ERROR(fs_.SyncDirectory(JoinPath(root, *name)));
  }
  return fs_.SyncDirectory(root);
}

}  // namespace q4
