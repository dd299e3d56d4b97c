// What runs of ours leave behind when they die: partial directories, each with a lock in it. How they are known, and
// how they and old outputs are removed, never more than was ours. Internal to formats/publish/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"

namespace q4 {

// In a partial directory: what is being replaced, until the new files are in place.
inline constexpr char kOldName[] = ".q4-old";
// In a partial directory: a directory for each record of a dead run whose files still lie at the destination.
inline constexpr char kLeftName[] = ".q4-left";

// In an old directory that is being replaced: the names of what the new one replaces, each with a zero byte behind it.
// What else lies in it is somebody's.
inline constexpr char kReplacedName[] = ".q4-replaced";

// Whether `name` is one of `names`.
bool Contains(const std::vector<std::string>& names, const std::string& name);

// Whether the directory `partial` was left by a dead run: it has the lock in it, or nothing at all if the run died
// before that. kForeignPartial for anything else, which may be the user's; kForeignOwner for a directory that another
// user made or may write to.
absl::Status CheckIsLeftover(FileSystem& fs, const std::string& partial);

// Makes a directory of a name that nobody else uses. An empty one that is there already is taken: a server whose reply
// got lost says so of the one that it has just made.
absl::Status MakeDirectory(FileSystem& fs, const std::string& path);

// Removes everything in `partial` but the lock and, if they are to be kept, the records of dead runs. REQUIRES: the
// caller holds the lock, or nobody else can.
absl::Status ClearPartial(FileSystem& fs, const std::string& partial, bool keep_records);

// All of a partial directory, the lock last: what is killed on the way is still known for ours. `lock`: open, or null;
// closed before the directory goes, for NFS and FUSE keep a file that is removed while it is open under another name.
absl::Status RemovePartial(FileSystem& fs, const std::string& partial, std::unique_ptr<WritableFile> lock);

// Removes what a dead run left at `path`, if anything lies there; an error if it is not ours.
absl::Status ClearLeftover(FileSystem& fs, const std::string& path);

// Writes into the directory `root`, which is about to change places with a new one, what may go of it: the files
// `names`. Durable.
absl::Status MarkReplaced(FileSystem& fs, const std::string& root, const std::vector<std::string>& names);
// Whether `path` is such a directory.
bool IsReplaced(FileSystem& fs, const std::string& path);
// Removes the files that its mark names, the directories that are empty then, and it. Of what is not named, nothing:
// kForeignPartial then, and the directory stays. kForeignOwner for one that another user made.
absl::Status RemoveReplaced(FileSystem& fs, const std::string& root);

// The same of a directory that stepped aside, if there is one. It goes under the name of a partial directory, which
// must be free: there also what a run leaves that is killed at the very end, an empty directory, is known for ours.
absl::Status RemoveAside(FileSystem& fs, const std::string& aside, const std::string& partial);

// Removes a directory and all below it, or a file; a symbolic link is removed, never followed, and a directory of
// another owner than the one that holds it is not entered. Absent: OK. kCannotRemove, kCannotList or kForeignOwner at
// the first entry that resists; what was removed before stays removed.
absl::Status RemoveTree(FileSystem& fs, const std::string& path);

}  // namespace q4
