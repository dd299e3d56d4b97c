// Where an operation on a path goes, and whose what lies there is. Internal to formats/posix/.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/posix/posix.h"

namespace q4 {

// A name in a directory: of an open one, or a path as it comes. Calls of the operating system take it in two parts.
class Place {
 public:
  explicit Place(std::string path) : name_(std::move(path)) {}
  Place(std::shared_ptr<Descriptor> directory, std::string name)
      : directory_(std::move(directory)), name_(std::move(name)) {}
  // There is no way there: a component is missing, or is a link. Every call with it fails with EBADF, those below with
  // this number.
  static Place Unreachable(int error);

  int directory() const { return error_ != 0 ? -1 : directory_ ? directory_->get() : AT_FDCWD; }
  const char* name() const { return name_.c_str(); }
  int error() const { return error_; }

  // openat(), repeated for signals; not valid for an error, which is in errno. In an open directory no link is
  // followed.
  Descriptor Open(int flags) const;
  // What lies there, links not followed unless asked for; nullopt for nothing, or if it cannot be told (errno).
  std::optional<struct stat> Look(bool follow = false) const;
  // unlinkat(): 0, or -1 and errno.
  int Unlink(int flags) const;

 private:
  std::shared_ptr<Descriptor> directory_;
  std::string name_;
  int error_ = 0;
};

// The directories that FileSystem::Hold() holds. Thread-safe; must outlive what Hold() has returned.
class HeldDirectories {
 public:
  absl::StatusOr<std::unique_ptr<HeldDirectory>> Hold(const std::string& path);
  // Where a name lies: below a held directory, in that; else the path as it is.
  Place Find(const std::string& path) const;
  // The same, but of a held directory itself the open one and not its name.
  Place Inside(const std::string& path) const;

 private:
  class Held;
  struct Entry {
    const Held* holder = nullptr;
    std::string path;
    std::shared_ptr<Descriptor> fd;
  };
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

// Whether `info`, of what lies at `path`, is as a new file of this process would be there: of the same owner and,
// unless `shared`, writable for nobody else whom a new file keeps out. A new file is asked, for on many file systems
// all have one owner or one mode, and a directory's default ACL stands above the umask. kForeignOwner.
absl::Status CheckOwner(const struct stat& info, const std::string& path, bool shared);
// Whether the file has this name alone. kForeignOwner.
absl::Status CheckOneName(const struct stat& info, const std::string& path);

}  // namespace q4
