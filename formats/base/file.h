// The file system as q4 sees it: positional reads, positional writes, sync, rename. Small enough to be replaced in
// tests by one that fails at the k-th operation or forgets what was not synced. PosixFileSystem() is the real one; only
// formats/posix calls the operating system.
//
// Paths are taken as they come, relative to the working directory. Errors are statuses with the issues 2xxx of
// base_issues.h; each names the path and, where there is one, the byte offset. Outputs are not created here but through
// AtomicFile and AtomicDirectory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace q4 {

// What to do when the last component of a path is a symbolic link. Links in the directories before it are always
// followed.
enum class SymbolicLinks {
  kFollow,
  kRefuse,  // but for those of which a hub cache consists (hub_cache.h): the default for what an input names
  kNever,   // for what q4 itself put there
};

// Identifies the file behind a path, whatever link led to it: two names of one file have equal identities. Holds as
// long as the file exists; an inode number may be reused afterwards.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

// The state of a file's content, as its file system tells it apart from others: equal values mean equal content, as far
// as can be known without reading it. `tag` is opaque, to be kept and compared: on POSIX the times of modification and
// change, inode and device; a network's own tag elsewhere. Many things change it that leave the content alone (a copy,
// a link, another mode), so that whoever finds another value reads before it concludes anything.
struct FileVersion {
  std::uint64_t size = 0;  // bytes
  std::string tag;
  bool operator==(const FileVersion&) const = default;
};

// Of RandomAccessFile::ReadUncached(), in bytes: the coarsest alignment that disks and file systems ask for.
inline constexpr std::uint64_t kUncachedAlignment = 4096;

// A regular file open for reading. Thread-safe: reads are positional. Never memory-mapped, so that a file truncated
// while it is read gives an error and no signal. Destroying it closes it.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  // Fills all of `out` with the bytes from `offset` on. kFileEndsEarly (exit code 3) if the file is or has become
  // shorter, kCannotRead (2) for an I/O error; `out` is then unspecified.
  virtual absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const = 0;
  // ReadAt() past the page cache, where the file system can do that, for large reads of what will not be read again
  // soon. REQUIRES: offset, address and size are multiples of kUncachedAlignment. Unlike ReadAt() it may reach past the
  // end of the file; what `out` holds for that range is unspecified. Errors as ReadAt().
  virtual absl::Status ReadUncached(std::uint64_t offset, std::span<std::uint8_t> out) const;
  // ReadAt() of what the page cache holds, and of nothing else: false, and `out` unspecified, where storage would have
  // to be read for any of it, or the file system cannot tell. Not an error in either case.
  virtual bool ReadCached(std::uint64_t offset, std::span<std::uint8_t> out) const;
  // Tells the system that [offset, offset+bytes) will be read soon. Returns at once. Advisory: nothing is reported, and
  // nothing depends on it but speed.
  virtual void Prefetch(std::uint64_t offset, std::uint64_t bytes) const = 0;
  // As it was at open, and as it is now. kCannotStat.
  virtual FileVersion version() const = 0;
  virtual absl::StatusOr<FileVersion> VersionNow() const = 0;
  // kFileChanged unless both are the same. Asked after a file was read, so that a result made of two states of a file
  // is not given out.
  absl::Status CheckUnchanged() const;
  // In bytes, at open.
  virtual std::uint64_t size() const = 0;
  // The path that it was opened by, for messages.
  virtual const std::string& path() const = 0;
  virtual FileIdentity identity() const = 0;

 protected:
  // The part of a read that lies before the end of the file; all of it if none does, so that ReadAt() reports it.
  std::span<std::uint8_t> InsideFile(std::uint64_t offset, std::span<std::uint8_t> out) const;
};

// A file open for writing, exclusively locked until Close() or destruction. Not thread-safe, but for Sync(), which may
// run beside writes: it covers those that ended before it.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Writes all of `data` at `offset`; loops over short writes and EINTR. Writing behind the end leaves a hole of zeros.
  // kCannotWrite: no space, a quota, an I/O error; how much was written is then unknown.
  virtual absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  // Reserves space for the first `bytes` bytes, so that a full disk is noticed early; the size of the file does not
  // change, and Truncate() gives back what was not used. OK where the file system does not support it, else
  // kCannotReserve.
  virtual absl::Status Reserve(std::uint64_t bytes) = 0;
  // Sets the size of the file to `bytes`. kCannotResize.
  virtual absl::Status Truncate(std::uint64_t bytes) = 0;
  // Starts writing dirty pages back without waiting, so that the final Sync() is short. Advisory.
  virtual void StartWriteback(std::uint64_t offset, std::uint64_t bytes) = 0;
  // fsync: when it returns OK, what was written is on the disk. An error (kCannotSync) is final and never retried: the
  // system may forget the failed pages and report success the next time.
  virtual absl::Status Sync() = 0;
  // Gives up the lock. Nothing may be called afterwards. The destructor closes too, but cannot report kCannotClose, by
  // which network file systems tell of a failed write.
  virtual absl::Status Close() = 0;
  virtual const std::string& path() const = 0;
  // False where the file system has no locks (Lustre without -o flock, NFS without a lock service). Such a file was
  // made by CreateExclusive(), and nothing but its name keeps other writers off.
  virtual bool locked() const { return true; }
};

// What lies at a path. All fields but `is_symlink` are those of the file that a symbolic link leads to.
struct PathInfo {
  // Also false for a symbolic link to nothing; is_symlink tells the two apart.
  bool exists = false;
  // Of the path itself.
  bool is_symlink = false;
  bool is_regular = false;
  bool is_directory = false;
  std::uint64_t size = 0;  // bytes
  FileIdentity identity;
  FileVersion version;
  std::uint32_t owner = 0;  // user id
};

// A directory that is open (FileSystem::Hold()).
class HeldDirectory {
 public:
  virtual ~HeldDirectory() = default;
  // It was renamed: from now on it is known by this path.
  virtual void MovedTo(const std::string& path) = 0;
  virtual FileIdentity identity() const = 0;
};

// Operations on paths. Thread-safe. Must outlive the files that it opened.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Only regular files open; FIFOs, devices, directories and sockets are refused without blocking (kNotARegularFile,
  // exit code 3). kSymbolicLink (3) if the path is a link that `links` does not admit; kCannotOpen (2) for everything
  // else, an absent file included.
  virtual absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path,
                                                                        SymbolicLinks links) = 0;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path) {
    return OpenForRead(path, SymbolicLinks::kFollow);
  }
  // Creates `path`, empty and exclusively locked; kOutputExists if it exists (O_EXCL). Not locked where there are no
  // locks; locked() tells.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) = 0;
  // Opens an existing `path` for writing, its content kept, and locks it; creates it if absent. kOutputInUse if the
  // lock is held already, by this process or another; kOutputNotARegularFile for a symbolic link or anything but a
  // regular file; kForeignOwner for a file that somebody else made or may write to; kCannotLock where the file system
  // has no locks, and then nothing was made.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) = 0;
  // Moves a file, or a directory. Atomic. With `replace` true a file at `to`, or an empty directory if a directory is
  // moved, disappears in the same instant. With `replace` false an existing `to` is an error (kOutputExists), without a
  // moment between look and rename; only where the file system knows neither RENAME_NOREPLACE nor hard links there is
  // one. Where a server's reply got lost, what was done counts. Durable only after SyncDirectory(). kCannotRename.
  virtual absl::Status Rename(const std::string& from, const std::string& to, bool replace) = 0;
  // `a` and `b`, files or directories that exist, change places in one instant. kCannotRename, on many file systems.
  virtual absl::Status Exchange(const std::string& a, const std::string& b) = 0;
  // Gives the directory `to` the mode of the directory `from`. OK where there are no modes. kCannotCreateDirectory.
  virtual absl::Status CopyMode(const std::string& from, const std::string& to) = 0;
  // Makes the names in `directory` durable: files created, renamed and removed so far. OK where the file system cannot.
  virtual absl::Status SyncDirectory(const std::string& directory) = 0;
  // Removing what is absent is OK: a run that resumes removes what the one before may have removed. Remove() takes
  // files and symbolic links, RemoveDirectory() empty directories. kCannotRemove.
  virtual absl::Status Remove(const std::string& path) = 0;
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;
  // kOutputExists if anything lies there, kCannotCreateDirectory otherwise. The parent must exist.
  virtual absl::Status CreateDirectory(const std::string& path) = 0;
  // An absent path is no error: `exists` is false. kCannotStat where the system will not say, for lack of permission.
  virtual absl::StatusOr<PathInfo> Stat(const std::string& path) = 0;
  // Opens the directory at `path`, which is no link. As long as the result lives, operations on names below `path` go
  // to this directory, whatever comes to its name meanwhile, and through no link below it; but for OpenForRead() with
  // links that are followed, and Stat(), which only looks. Operations on `path` itself go to the name, but for
  // ListDirectory(), SyncDirectory(), CopyMode() and CheckOurs(). A file system without descriptors goes by path all
  // the same. kCannotStat.
  virtual absl::StatusOr<std::unique_ptr<HeldDirectory>> Hold(const std::string& path);
  // Whether what lies at `path` can be believed to be ours, in a directory that others may write: it has the owner that
  // a new file of ours gets there; and unless `shared`, nobody may write to it who may not write to a new file, and a
  // file has no second name. kForeignOwner, with who owns it and the way out; kCannotStat for nothing. OpenLocked()
  // asks the same of a file that exists, but for the second name. OK where there are no owners.
  virtual absl::Status CheckOurs(const std::string& path, bool shared);
  // The text of the symbolic link at `path`, whatever it leads to. kCannotStat if there is none. A file system without
  // links need not know it.
  virtual absl::StatusOr<std::string> ReadLink(const std::string& path);
  // The absolute path of an existing `directory`, without links, "." and "..". kCannotStat.
  virtual absl::StatusOr<std::string> RealPath(const std::string& directory);
  // Names of the entries, bytewise sorted, without "." and "..". The system's own order differs between machines and
  // must not reach any output.
  virtual absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) = 0;
};

// The file system of the machine; lives as long as the process.
FileSystem& PosixFileSystem();

// "a/b/c" -> "a/b", "." when there is no slash, "/" for "/a". Texts only: nothing is looked up or resolved.
std::string DirectoryOf(const std::string& path);
// "a/b/c" -> "c".
std::string BaseNameOf(const std::string& path);
// "a" and "b/c" -> "a/b/c". An empty directory or "." adds nothing.
std::string JoinPath(const std::string& directory, const std::string& name);

// Whether two names are of one file that need not exist yet: the same name in the same directory. Directories are
// compared by identity, so that "x", "./x" and a path through a link are alike. False where a directory is absent.
// Errors: those of Stat().
absl::StatusOr<bool> SamePlace(FileSystem& fs, const std::string& a, const std::string& b);

// The whole of a small file. kFileTooLarge if it has more than `limit` bytes, before anything is allocated; else the
// errors of OpenForRead() and ReadAt(). The size is that at open.
absl::StatusOr<std::string> ReadWholeFile(FileSystem& fs, const std::string& path, std::uint64_t limit,
                                          SymbolicLinks links = SymbolicLinks::kFollow);

}  // namespace q4
