// The file system as q4 sees it: positional reads, positional writes, sync, rename. Small enough to be replaced in
// tests by one that fails at the k-th operation. PosixFileSystem() is the real one; only file_posix.cc calls the
// operating system.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace q4 {

// What to do when the last component of a path is a symbolic link.
enum class SymbolicLinks { kFollow, kRefuse };

// Identifies the file behind a path, whatever link led to it.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

// Of RandomAccessFile::ReadUncached(): what disks and file systems want at most.
inline constexpr std::uint64_t kUncachedAlignment = 4096;

// A regular file open for reading. Thread-safe: reads are positional. Never memory-mapped, so that a file truncated
// while it is read gives an error and no signal.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  // Fills `out` from `offset`; short files and I/O errors are errors (exit code 2, or 3 "file ends early").
  virtual absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const = 0;
  // ReadAt() past the page cache, where the file system can do that, for large reads of what will not be read again
  // soon. Offset, address and size are multiples of kUncachedAlignment; what lies behind the end of the file is
  // unspecified.
  virtual absl::Status ReadUncached(std::uint64_t offset, std::span<std::uint8_t> out) const;
  // Tells the system that [offset, offset+bytes) will be read soon. Advisory.
  virtual void Prefetch(std::uint64_t offset, std::uint64_t bytes) const = 0;
  // An error unless size and modification time are still those at open ("input changed while reading").
  virtual absl::Status CheckUnchanged() const = 0;
  virtual std::uint64_t size() const = 0;                 // at open
  virtual std::int64_t modified_nanoseconds() const = 0;  // at open, since 1970
  // At open, since 1970: the last change of content, mode, owner or links. Unlike the one above it cannot be put back.
  virtual std::int64_t changed_nanoseconds() const = 0;
  virtual const std::string& path() const = 0;
  virtual FileIdentity identity() const = 0;

 protected:
  // The part of a read that lies before the end of the file; all of it if none does, so that ReadAt() reports it.
  std::span<std::uint8_t> InsideFile(std::uint64_t offset, std::span<std::uint8_t> out) const;
};

// A file open for writing. Not thread-safe, but for Sync(), which may run beside writes: it covers those that ended
// before it.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Writes all of `data` at `offset`; loops over short writes and EINTR.
  virtual absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  // Reserves space so that a full disk is noticed early; the size of the file does not change, and Truncate() gives
  // back what was not used. Not supported by a file system: OK.
  virtual absl::Status Reserve(std::uint64_t bytes) = 0;
  virtual absl::Status Truncate(std::uint64_t bytes) = 0;
  // Starts writing dirty pages back without waiting, so that the final Sync() is short. Advisory.
  virtual void StartWriteback(std::uint64_t offset, std::uint64_t bytes) = 0;
  virtual absl::Status Sync() = 0;  // fsync; an error is final and never retried
  // Gives up the lock. Nothing may be called afterwards. The destructor closes too, but cannot report an error.
  virtual absl::Status Close() = 0;
  virtual const std::string& path() const = 0;
};

struct PathInfo {
  bool exists = false;      // false as well for a symbolic link to nothing
  bool is_symlink = false;  // of the path itself; all other fields are those of what it leads to
  bool is_regular = false;
  bool is_directory = false;
  std::uint64_t size = 0;
  FileIdentity identity;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Only regular files open; FIFOs, devices, directories and sockets are refused without blocking.
  virtual absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path,
                                                                        SymbolicLinks links) = 0;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path) {
    return OpenForRead(path, SymbolicLinks::kFollow);
  }
  // Creates `path`; it is an error if it exists (O_EXCL). The file is exclusively locked while open.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) = 0;
  // Opens an existing `path` for writing, without following a symbolic link, and locks it; "in use" if another process
  // holds the lock. Creates it if absent.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) = 0;
  // Atomic. With `replace` false an existing `to` is an error.
  virtual absl::Status Rename(const std::string& from, const std::string& to, bool replace) = 0;
  virtual absl::Status SyncDirectory(const std::string& directory) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;            // absent: OK
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;   // an empty one; absent: OK
  virtual absl::Status CreateDirectory(const std::string& path) = 0;   // exists: error
  virtual absl::StatusOr<PathInfo> Stat(const std::string& path) = 0;  // absent: exists == false
  // Names of the entries, bytewise sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) = 0;
};

FileSystem& PosixFileSystem();

// "a/b/c" -> "a/b" ("." when there is no slash), and the last component.
std::string DirectoryOf(const std::string& path);
std::string BaseNameOf(const std::string& path);
std::string JoinPath(const std::string& directory, const std::string& name);

// The whole of a small file; an error if it is larger than `limit`.
absl::StatusOr<std::string> ReadWholeFile(FileSystem& fs, const std::string& path, std::uint64_t limit);

}  // namespace q4
