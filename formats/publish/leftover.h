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

// Whether `name` is one of `names`.
bool Contains(const std::vector<std::string>& names, const std::string& name);

// Whether the directory `partial` was left by a dead run: it has the lock in it, or nothing at all if the run died
// before that. kForeignPartial for anything else, which may be the user's.
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

// Removes the files `names` below `root`, and the directories that are empty then, `root` last. Of what is not named,
// nothing.
absl::Status RemoveNamed(FileSystem& fs, const std::string& root, const std::vector<std::string>& names);

// Removes a directory and all below it, or a file; a symbolic link is removed, never followed. Absent: OK.
// kCannotRemove or kCannotList at the first entry that resists; what was removed before stays removed.
absl::Status RemoveTree(FileSystem& fs, const std::string& path);

}  // namespace q4
