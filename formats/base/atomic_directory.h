// A directory of files that appears only when it is complete: filled beside its destination as `path`.partial, synced,
// renamed. q4export writes models for other software this way. atomic_file.h is the counterpart for a single file.
//
// The destination holds the old directory or the new one at any instant, with one exception: rename() cannot replace a
// directory that is not empty, so replacing takes two renames. See Publish().
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// Life: Create -> CreateFile / WriteFile -> Publish(). If it is destroyed before Publish() succeeded, the partial
// directory is removed and the destination is untouched. Not thread-safe, but the files that CreateFile() returns are
// independent of each other and may be written on several threads.
class AtomicDirectory {
 public:
  // Makes and locks `path`.partial. What a dead run left there is removed. `fs` must outlive the result.
  //
  // Errors, all with exit code 2: kOutputExists if `path` exists and `replace` is false; kOutputNotADirectory if a
  // file, device or symbolic link lies there; kForeignPartial if `path`.partial is none that a run of ours made;
  // kOutputInUse if another process fills it; and those of the file system.
  static absl::StatusOr<std::unique_ptr<AtomicDirectory>> Create(FileSystem& fs, const std::string& path, bool replace);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // Where Publish() moves the directory that it replaces. Publish() removes it in the end, and first whatever lay there
  // before: an earlier run died between its renames.
  static std::string AsidePath(const std::string& path) { return path + ".q4-replaced"; }
  // The file that locks a partial directory. A run that dies right after the rename leaves it in the destination.
  static constexpr char kLockName[] = ".q4-lock";

  // A new file `name`, empty. REQUIRES: `name` is relative, with plain components separated by '/'; the caller has
  // checked names that come from a file. Directories on the way are made. kOutputExists if this object made that file
  // before. The caller syncs and closes the result before Publish().
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(const std::string& name);
  // A small file with this content: written, synced and closed. Errors as CreateFile(), and those of WritableFile.
  absl::Status WriteFile(const std::string& name, std::string_view content);

  // Syncs the directories, moves a replaced destination aside, renames, and removes what was replaced. If the process
  // dies in between, the destination is the old directory, the new one, or (for the moment between two renames) the old
  // one under the name AsidePath(). If the second rename fails the first is undone.
  //
  // Call once; after an error destroy the object. kOutputExists if somebody made `path` in the meantime.
  absl::Status Publish();

 private:
  AtomicDirectory(FileSystem& fs, std::string path, bool replace);
  absl::Status MakeParents(const std::string& name);

  FileSystem& fs_;
  std::string path_, partial_path_;
  bool replace_;
  bool published_ = false;
  std::vector<std::string> subdirectories_;  // relative, parents first
  std::unique_ptr<WritableFile> lock_;       // open, and so locked, as long as this object lives
};

// Removes a directory and all below it, or a file; a symbolic link is removed, never followed. Absent: OK.
// kCannotRemove or kCannotList at the first entry that resists; what was removed before stays removed.
absl::Status RemoveTree(FileSystem& fs, const std::string& path);

}  // namespace q4
