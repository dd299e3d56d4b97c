// Output that appears only when it is complete: written beside its destination, synced, renamed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// The only place that publishes files. Life: Create -> file() is written -> Publish(). If it is destroyed before
// Publish() succeeded, the partial file is removed and the destination is untouched.
class AtomicFile {
 public:
  // What happens to a partial file that a dead run left. Who keeps it must know what is in it.
  enum class Leftover { kTruncate, kKeep };

  // Opens `path`.partial in the same directory and locks it; a second writer gets "in use" (exit code 2). An existing
  // `path` is an error unless `replace`; a directory, device or FIFO there is an error always. A symbolic link at
  // `path` is replaced itself, not what it leads to. `fs` must outlive the result.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(FileSystem& fs, const std::string& path, bool replace,
                                                            Leftover leftover = Leftover::kTruncate);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Where Create(`path`) writes until Publish().
  static std::string PartialPath(const std::string& path) { return path + ".partial"; }

  WritableFile& file() { return *file_; }
  const std::string& partial_path() const { return partial_path_; }
  // The partial file stays where it is when this object goes: a later run goes on with it.
  void LeavePartial() { leave_partial_ = true; }
  // sync -> rename -> sync of the directory -> close. After an error nothing is retried: destroy the object.
  absl::Status Publish();

 private:
  AtomicFile(FileSystem& fs, std::string path, bool replace);
  FileSystem& fs_;
  std::string path_, partial_path_;
  bool replace_;
  bool published_ = false, leave_partial_ = false;
  std::unique_ptr<WritableFile> file_;
};

// Writes `content` to `path` atomically.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content, bool replace);

}  // namespace q4
