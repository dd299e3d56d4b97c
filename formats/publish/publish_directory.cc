// AtomicDirectory::Publish(): in one instant, or file by file. In the second way whatever makes files a model goes
// first and comes last, each step is durable before one that needs it, and all of them can be taken back.
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_directory.h"
#include "formats/publish/atomic_file.h"
#include "formats/publish/leftover.h"

namespace q4 {

// The files were synced by those who wrote them; here their names become durable, and the rename comes when nothing of
// the new content can be lost any more.
absl::Status AtomicDirectory::Publish(const DirectoryUse& use, const std::vector<std::string>& last) {
  if (resumes_) Q4_RETURN_IF_ERROR(RemoveOthers(""));
  Q4_RETURN_IF_ERROR(SyncTree(partial_path_));
  bool done = false;
  if (whole_ && !use.keep_others) {
    Q4_ASSIGN_OR_RETURN(done, PublishWhole(use.ours));
  }
  if (!done) {
    whole_ = false;
    Q4_RETURN_IF_ERROR(PublishFiles(use.ours, last));
  }
  return RemoveLeftovers();
}

// Partial directories in other places than this one's, where dead runs published in another way. What they knew is
// replaced by now. One that cannot be locked belongs to a run that is alive, or nobody can tell.
absl::Status AtomicDirectory::RemoveLeftovers() {
  Q4_ASSIGN_OR_RETURN(const auto leftovers, Leftovers(fs_, path_));
  for (const std::string& leftover : leftovers) {
    if (!leftover.ends_with(AtomicFile::PartialPath(""))) continue;  // in another one
    auto lock = fs_.OpenLocked(JoinPath(leftover, kLockName));
    if (lock.ok()) Q4_RETURN_IF_ERROR(RemovePartial(fs_, leftover, *std::move(lock)));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> AtomicDirectory::PublishWhole(const std::vector<std::string>& ours) {
  const std::string aside = AsidePath(path_);
  if (!exists_) {
    Q4_RETURN_IF_ERROR(fs_.Rename(partial_path_, path_, false));
    return Published(/*exchanged=*/false);
  }
  Q4_ASSIGN_OR_RETURN(const PathInfo before, fs_.Stat(path_));
  Q4_ASSIGN_OR_RETURN(const PathInfo mine, fs_.Stat(partial_path_));
  if (before.owner != mine.owner) return false;  // as in Create(): it may be another one by now
  Q4_RETURN_IF_ERROR(fs_.CopyMode(path_, partial_path_));
  if (ours.empty() && fs_.Rename(partial_path_, path_, true).ok()) {
    destination_.reset();  // gone
    return Published(/*exchanged=*/false);
  }
  if (const absl::Status marked = MarkReplaced(fs_, path_, ours); !marked.ok()) {
    fs_.Remove(JoinPath(path_, kReplacedName)).IgnoreError();
    return marked;
  }
  if (fs_.Exchange(partial_path_, path_).ok()) {
    destination_->MovedTo(partial_path_);
    return Published(/*exchanged=*/true);
  }
  // No renaming over it, for it holds the mark now: it steps aside.
  const absl::Status cleared = IsReplaced(fs_, aside) ? RemoveReplaced(fs_, aside) : absl::OkStatus();
  if (!cleared.ok() || !fs_.Rename(path_, aside, false).ok()) {
    Q4_RETURN_IF_ERROR(fs_.Remove(JoinPath(path_, kReplacedName)));
    Q4_RETURN_IF_ERROR(cleared);
    return false;
  }
  destination_->MovedTo(aside);
  if (const absl::Status renamed = fs_.Rename(partial_path_, path_, false); !renamed.ok()) {
    // The old directory gets its name back. If that fails as well it is safe under the name `aside`.
    if (fs_.Rename(aside, path_, false).ok()) {
      destination_->MovedTo(path_);
      fs_.Remove(JoinPath(path_, kReplacedName)).IgnoreError();
    }
    return renamed;
  }
  return Published(/*exchanged=*/false);
}

// What follows the rename. `exchanged`: the old directory has the name of the partial one.
absl::StatusOr<bool> AtomicDirectory::Published(bool exchanged) {
  // From here on the destructor must leave everything alone. Errors below are reported, but the new content is in
  // place, and what can be cleared is.
  published_ = true;
  partial_->MovedTo(path_);
  Q4_ASSIGN_OR_RETURN(const PathInfo now, fs_.Stat(path_));
  absl::Status status;
  if (now.identity != partial_->identity())
    status = Fail(kOutputExists, path_, {}, "somebody exchanged what was published");
  // The records of dead runs have come along; what they knew is gone.
  if (keeps_records_) status.Update(RemoveTree(fs_, JoinPath(path_, kLeftName)));
  status.Update(fs_.Remove(JoinPath(path_, kLockName)));
  status.Update(fs_.SyncDirectory(DirectoryOf(path_)));
  if (exchanged) status.Update(RemoveReplaced(fs_, partial_path_));
  destination_.reset();  // gone, and its name is free
  // The old one that stepped aside, or one that an earlier run had no time to remove.
  status.Update(RemoveAside(fs_, AsidePath(path_), partial_path_));
  Q4_RETURN_IF_ERROR(status);
  return true;
}

absl::Status AtomicDirectory::Move(const std::string& from, const std::string& to, bool replace) {
  Q4_RETURN_IF_ERROR(fs_.Rename(from, to, replace));
  moves_.emplace_back(from, to);
  return absl::OkStatus();
}

// Undoes what was moved, the last first, and makes that durable: the partial directory is cleared after it.
void AtomicDirectory::TakeBack() {
  std::set<std::string> directories;
  for (auto move = moves_.rbegin(); move != moves_.rend(); ++move) {
    const auto& [from, to] = *move;
    directories.insert({DirectoryOf(from), DirectoryOf(to)});
    if (fs_.Rename(to, from, false).ok()) continue;
    // A file system on which nothing can be renamed any more. A new file can go; an old one stays where it is, in the
    // partial directory.
    const bool is_new = !to.starts_with(partial_path_ + "/");
    if (!is_new || !fs_.Remove(to).ok()) keep_partial_ = true;
  }
  for (const std::string& directory : directories) fs_.SyncDirectory(directory).IgnoreError();
}

absl::Status AtomicDirectory::PublishFiles(const std::vector<std::string>& ours, const std::vector<std::string>& last) {
  std::vector<std::string> made, created;  // directories in the destination: all on the way, and those that are new
  const std::string record = last.empty() ? std::string() : last.back();
  const auto work = [&]() -> absl::Status {
    const std::string old = JoinPath(partial_path_, kOldName);
    Q4_RETURN_IF_ERROR(MakeDirectory(fs_, old));
    Q4_RETURN_IF_ERROR(fs_.SyncDirectory(partial_path_));
    std::uint64_t number = 0;
    const auto take_away = [&](const std::string& name) -> absl::Status {
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(JoinPath(path_, name)));
      if (!info.exists && !info.is_symlink) return absl::OkStatus();
      return Move(JoinPath(path_, name), JoinPath(old, std::to_string(number++)), false);
    };
    // What makes the old files a model goes first, for good; of a model of several folders, what makes them one at
    // first. Both ends of a move are synced: a file system may write the one and not the other.
    std::set<std::string> changed{path_, old};
    for (auto name = last.rbegin(); name != last.rend(); ++name) {
      if (*name == record || !Contains(ours, *name)) continue;
      Q4_RETURN_IF_ERROR(take_away(*name));
      changed.insert(DirectoryOf(JoinPath(path_, *name)));
    }
    for (const std::string& directory : changed) Q4_RETURN_IF_ERROR(fs_.SyncDirectory(directory));
    for (const std::string& name : ours) {
      if (!Contains(last, name)) Q4_RETURN_IF_ERROR(take_away(name));
    }
    for (const std::string& name : files_) {
      Q4_RETURN_IF_ERROR(MakeParents(path_, name, &made, &created));
      if (Contains(last, name)) continue;
      Q4_RETURN_IF_ERROR(Move(JoinPath(partial_path_, name), JoinPath(path_, name), false));
    }
    Q4_RETURN_IF_ERROR(fs_.SyncDirectory(old));
    Q4_RETURN_IF_ERROR(SyncTree(path_));
    std::string before;  // the directory of the file before
    for (const std::string& name : last) {
      if (!Contains(files_, name)) continue;
      const std::string to = JoinPath(path_, name);
      if (!before.empty() && (before != DirectoryOf(to) || name == record)) {
        Q4_RETURN_IF_ERROR(fs_.SyncDirectory(before));
      }
      before = DirectoryOf(to);
      Q4_RETURN_IF_ERROR(Move(JoinPath(partial_path_, name), to, name == record && Contains(ours, record)));
    }
    return absl::OkStatus();
  };
  if (const absl::Status status = work(); !status.ok()) {
    TakeBack();
    for (auto name = created.rbegin(); name != created.rend(); ++name) {
      fs_.RemoveDirectory(JoinPath(path_, *name)).IgnoreError();
    }
    return status;
  }
  published_ = true;
  // Before the partial directory goes, by whose record a later run would know them.
  absl::Status status = SyncTree(path_);
  keeps_records_ = false;
  // Directories of old files that are empty now.
  for (const std::string& name : ours) {
    for (std::size_t slash = name.rfind('/'); slash != std::string::npos && slash != 0;
         slash = name.rfind('/', slash - 1)) {
      fs_.RemoveDirectory(JoinPath(path_, name.substr(0, slash))).IgnoreError();
    }
  }
  // Of runs that died while they published in another way.
  for (const char* name : {kLockName, kReplacedName}) status.Update(fs_.Remove(JoinPath(path_, name)));
  status.Update(RemoveOwnPartial());
  status.Update(fs_.SyncDirectory(path_));
  return status;
}

}  // namespace q4
