// A directory of files that appears only when it is complete: filled beside its destination, synced, renamed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// The counterpart of AtomicFile. Life: Create -> CreateFile / WriteFile -> Publish(). If it is destroyed before
// Publish() succeeded, the partial directory is removed and the destination is untouched. Not thread-safe.
class AtomicDirectory {
 public:
  // Makes and locks `path`.partial; a second writer gets "in use" (exit code 2), and what a dead run left there is
  // removed. A `path`.partial that no run of ours made is an error, and so is an existing `path` unless `replace`.
  static absl::StatusOr<std::unique_ptr<AtomicDirectory>> Create(FileSystem& fs, const std::string& path, bool replace);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // Where Publish() moves what it replaces, which it removes in the end, whatever lay there before.
  static std::string AsidePath(const std::string& path) { return path + ".q4-replaced"; }
  // The file that locks a partial directory. A run that dies right after the rename leaves it in the destination.
  static constexpr char kLockName[] = ".q4-lock";

  // A new file `name`: relative, '/' separated, plain components; directories on the way are made. The caller syncs and
  // closes it.
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(const std::string& name);
  // A small file, written, synced and closed.
  absl::Status WriteFile(const std::string& name, std::string_view content);

  // Syncs the directories, moves a replaced destination aside, renames, and removes what was replaced. If the process
  // dies in between, the destination is the old directory, the new one, or (for the moment between two renames) the old
  // one under the name AsidePath().
  absl::Status Publish();

 private:
  AtomicDirectory(FileSystem& fs, std::string path, bool replace);
  absl::Status MakeParents(const std::string& name);

  FileSystem& fs_;
  std::string path_, partial_path_;
  bool replace_;
  bool published_ = false;
  std::vector<std::string> subdirectories_;  // relative, parents first
  std::unique_ptr<WritableFile> lock_;
};

// Removes a directory and all below it; a symbolic link is removed, never followed. Absent: OK.
absl::Status RemoveTree(FileSystem& fs, const std::string& path);

}  // namespace q4
