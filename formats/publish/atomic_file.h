// Output that appears only when it is complete: written beside its destination as `path`.partial, synced, renamed.
// docs/safety.md, promises 3 to 5, rest on it. The partial file lies in the destination's directory because a rename
// must not cross file systems. atomic_directory.h does the same for a directory.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// The only place that publishes files. Life: Create -> file() is written -> Publish(). If it is destroyed before
// Publish() succeeded, the partial file is removed, unless LeavePartial() was called, and the destination is untouched.
// Not thread-safe.
class AtomicFile {
 public:
  // What happens to a partial file that a dead run left. kKeep leaves its bytes in place, for a caller that knows from
  // its journal what is in them.
  enum class Leftover { kTruncate, kKeep };

  // Opens `path`.partial in the same directory and locks it. A symbolic link at `path` is replaced itself, not what it
  // leads to. Where the file system has no locks the partial file is a new one of a random name,
  // `path`.XXXXXXXX.partial, so that two writers never share one; what a dead run left is then not taken over. `fs`
  // must outlive the result.
  //
  // Errors, all with exit code 2: kOutputNotARegularFile if a directory, device or FIFO lies at `path`, whatever
  // `replace` says; kOutputExists if a file does and `replace` is false; kOutputInUse if another process writes the
  // partial file; kForeignOwner if another user made it or may write to it, or it has a second name; and those of
  // FileSystem::OpenLocked().
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(FileSystem& fs, const std::string& path, bool replace,
                                                            Leftover leftover = Leftover::kTruncate);
  // For writers that must not share a partial file nor wait for each other, on several machines: opens a new one in the
  // same directory, `.NAME.XXXXXXXX.partial` with random digits, hidden and never taken over. What lies at `path` does
  // not matter before Publish(`replace`). Errors: those of FileSystem::CreateExclusive().
  static absl::StatusOr<std::unique_ptr<AtomicFile>> CreateUnique(FileSystem& fs, const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Where Create(`path`) writes until Publish(), if there are locks.
  static std::string PartialPath(const std::string& path) { return path + ".partial"; }

  // All names that an output at `path` is written under, probed or published: none of them may be an input.
  static std::vector<std::string> Names(const std::string& path);

  // The partial file, owned by this object. It may be written, truncated and synced, but not closed.
  WritableFile& file() { return *file_; }
  const std::string& partial_path() const { return partial_path_; }
  // False: the partial file has a random name, as above, and no later run will find it.
  bool locked() const { return file_->locked(); }
  // Makes, locks, syncs, renames and removes an empty file in the same directory, with the calls that Publish() will
  // make, so that hours of work are not lost because a file system cannot rename: kCannotPublish then, with what the
  // system said, or what it says of a directory that is full or not writable. Once for all files of a directory.
  //
  // The file is called ProbePath(partial_path()), then the same and "2". What a killed run left of it, an empty file,
  // is removed; a file of that name that is not empty is not ours: kForeignPartial.
  absl::Status TryPublishing() const;
  static std::string ProbePath(const std::string& partial_path) { return partial_path + ".q4-probe"; }
  // The partial file stays where it is when this object goes, for a later run to resume from.
  void LeavePartial() { leave_partial_ = true; }
  // sync -> rename -> sync of the directory -> close. The file is synced before it gets its name: after a power loss a
  // rename may be on the disk and the data behind it not. After an error nothing is retried (a second fsync may report
  // success although the data is gone): destroy the object. kOutputExists if `replace` is false and somebody made
  // `path` in the meantime. May be called again then, with another answer: what was written is as it was.
  absl::Status Publish() { return Publish(replace_); }
  absl::Status Publish(bool replace);

 private:
  AtomicFile(FileSystem& fs, std::string path, bool replace);
  FileSystem& fs_;
  std::string path_, partial_path_;
  bool replace_;
  bool published_ = false, leave_partial_ = false;
  std::unique_ptr<WritableFile> file_;
};

// Whether `name` is one that CreateUnique() gives the partial file of a file `of`, or the probe beside it. Plain names.
bool IsUniquePartial(std::string_view name, std::string_view of);

// "path.XXXXXXXX.partial" with random digits, for file systems without locks.
std::string UniquePartialPath(const std::string& path);

// Writes `content` to `path` atomically: Create(), one write, Publish(), with their errors.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content, bool replace);
// The same by CreateUnique(): several writers may do so at a time.
absl::Status WriteFileUniquely(FileSystem& fs, const std::string& path, std::string_view content, bool replace);

}  // namespace q4
