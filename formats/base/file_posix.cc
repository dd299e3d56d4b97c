// The POSIX file system. Every call that a signal can interrupt is repeated, every count is checked, and every
// descriptor is closed on exec. What is open is decided by fstat on the descriptor, never by an earlier look at the
// path.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/file.h"
#include "formats/base/hub_cache.h"
#include "formats/base/path_hints.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// Linux transfers at most 0x7ffff000 bytes per call. A round number below it keeps offsets aligned.
constexpr std::size_t kMaxTransferBytes = std::size_t{1} << 30;

// The system's text for an error number, to stand in brackets behind the rule that was broken.
std::string ErrorText(int error) { return std::generic_category().message(error); }

// Repeats a system call that returns -1 with EINTR.
template <typename Call>
auto RetryOnEintr(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

// Whether a call failed because this kernel or file system does not know it, rather than for what it was asked to do.
// EINVAL is how a file system refuses flags that it does not know.
bool IsUnknownHere(int error) { return error == ENOSYS || error == EOPNOTSUPP || error == EINVAL; }

// What lies there instead of a regular file, for messages.
std::string_view KindOf(const struct stat& info) {
  if (S_ISDIR(info.st_mode)) return "a directory";
  if (S_ISFIFO(info.st_mode)) return "a FIFO";
  if (S_ISSOCK(info.st_mode)) return "a socket";
  if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) return "a device";
  return "neither file nor directory";
}

FileIdentity IdentityOf(const struct stat& info) { return {info.st_dev, info.st_ino}; }

// No program can set the change time back, as it can the modification time.
FileVersion VersionOf(const struct stat& info) {
  return {static_cast<std::uint64_t>(info.st_size),
          fmt::format("{}.{:09} {}.{:09} {} {}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                      info.st_ctim.tv_nsec, info.st_ino, info.st_dev)};
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // 0, or the error number. On Linux the descriptor is gone even after EINTR, and must not be closed again.
  int Close() {
    const int result = ::close(std::exchange(fd_, -1));
    return result == 0 || errno == EINTR ? 0 : errno;
  }

 private:
  int fd_;
};

// Size and times are those of fstat at open. Reads beyond that size are refused even where the file has grown since:
// the headers that were validated speak of the old file.
class PosixReadFile final : public RandomAccessFile {
 public:
  PosixReadFile(Descriptor fd, std::string path, const struct stat& info)
      : fd_(std::move(fd)), path_(std::move(path)), info_(info) {}

  // The range is checked against the size at open first, so that a claim of exabytes is refused without a system call.
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (!RangeFits(offset, out.size(), size())) {
      return Fail(kFileEndsEarly, path_, AtOffset(offset),
                  GotExpected(std::to_string(size()) + " bytes", "at least " + std::to_string(out.size()) + " more"));
    }
    while (!out.empty()) {
      const std::size_t want = std::min(out.size(), kMaxTransferBytes);
      const ssize_t got =
          RetryOnEintr([&] { return ::pread(fd_.get(), out.data(), want, static_cast<off_t>(offset)); });
      if (got < 0) return Fail(kCannotRead, path_, AtOffset(offset), ErrorText(errno));
      // pread() returns 0 at the end only: somebody has truncated the file since it was opened.
      if (got == 0) return Fail(kFileEndsEarly, path_, AtOffset(offset), "it was longer when it was opened");
      offset += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
    return absl::OkStatus();
  }

  // The second descriptor is opened at the first use: few files are read this way. Reads come from it as far as whole
  // aligned blocks go; ReadAt() takes the rest.
  absl::Status ReadUncached(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    // The same file once more, whatever has come to its name since; file systems that cannot bypass the cache refuse.
    std::call_once(uncached_once_, [this] {
      const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
      uncached_fd_.emplace(RetryOnEintr([&] { return ::open(self.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT); }));
    });
    const std::size_t inside = InsideFile(offset, out).size();
    std::size_t done = 0;
    while (uncached_fd_->valid() && done < inside) {
      const std::size_t want = std::min(out.size() - done, kMaxTransferBytes);
      const ssize_t got = RetryOnEintr(
          [&] { return ::pread(uncached_fd_->get(), out.data() + done, want, static_cast<off_t>(offset + done)); });
      if (got <= 0) break;  // whatever it is, ReadAt() meets it too and reports it, or does without this
      done += static_cast<std::size_t>(got);
      // A short read has left the next offset unaligned, which O_DIRECT refuses.
      if (done % kUncachedAlignment != 0) break;
    }
    // All of the file was read, or ReadAt() reads the rest through the cache.
    return done >= inside ? absl::OkStatus() : ReadAt(offset + done, out.subspan(done, inside - done));
  }

  bool ReadCached(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    const iovec to{out.data(), out.size()};
    return ::preadv2(fd_.get(), &to, 1, static_cast<off_t>(offset), RWF_NOWAIT) == static_cast<ssize_t>(out.size());
  }

  void Prefetch(std::uint64_t offset, std::uint64_t bytes) const override {
    // Advice that is refused is no error.
    ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
  }

  FileVersion version() const override { return VersionOf(info_); }
  absl::StatusOr<FileVersion> VersionNow() const override {
    struct stat now {};
    if (::fstat(fd_.get(), &now) != 0) return Fail(kCannotStat, path_, {}, ErrorText(errno));
    return VersionOf(now);
  }

  std::uint64_t size() const override { return static_cast<std::uint64_t>(info_.st_size); }
  const std::string& path() const override { return path_; }
  FileIdentity identity() const override { return IdentityOf(info_); }

 private:
  Descriptor fd_;
  std::string path_;
  struct stat info_;
  // ReadUncached() is const and may be called from several threads at once: the flag lets one of them open.
  mutable std::once_flag uncached_once_;
  mutable std::optional<Descriptor> uncached_fd_;
};

class PosixWriteFile final : public WritableFile {
 public:
  PosixWriteFile(Descriptor fd, std::string path, bool locked)
      : fd_(std::move(fd)), path_(std::move(path)), locked_(locked) {}

  absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    while (!data.empty()) {
      const std::size_t want = std::min(data.size(), kMaxTransferBytes);
      const ssize_t put =
          RetryOnEintr([&] { return ::pwrite(fd_.get(), data.data(), want, static_cast<off_t>(offset)); });
      if (put < 0) return Fail(kCannotWrite, path_, AtOffset(offset), ErrorText(errno));
      // Nothing written and no error would loop for ever.
      if (put == 0) return Fail(kCannotWrite, path_, AtOffset(offset), "the system wrote no bytes");
      offset += static_cast<std::uint64_t>(put);
      data = data.subspan(static_cast<std::size_t>(put));
    }
    return absl::OkStatus();
  }

  absl::Status Reserve(std::uint64_t bytes) override {
    if (bytes == 0) return absl::OkStatus();
    // From offset 0 on: space that the file has already costs nothing. KEEP_SIZE, so that a reader of a partial file
    // never sees zeros that were not written.
    const int result =
        RetryOnEintr([&] { return ::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)); });
    // Not supported here: the space is then looked for at each write, as without this call.
    if (result == 0 || IsUnknownHere(errno)) return absl::OkStatus();
    return Fail(kCannotReserve, path_, {}, std::to_string(bytes) + " bytes: " + ErrorText(errno));
  }

  absl::Status Truncate(std::uint64_t bytes) override {
    if (RetryOnEintr([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(bytes)); }) == 0) return absl::OkStatus();
    return Fail(kCannotResize, path_, {}, std::to_string(bytes) + " bytes: " + ErrorText(errno));
  }

  void StartWriteback(std::uint64_t offset, std::uint64_t bytes) override {
    // The result is not asked: an error comes again at Sync(), whose result is.
    ::sync_file_range(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes), SYNC_FILE_RANGE_WRITE);
  }

  // fsync and not fdatasync: the size of the file must be durable as well. Only EINTR is repeated, no error ever is.
  absl::Status Sync() override {
    if (RetryOnEintr([&] { return ::fsync(fd_.get()); }) == 0) return absl::OkStatus();
    return Fail(kCannotSync, path_, {}, ErrorText(errno));
  }

  absl::Status Close() override {
    const int error = fd_.Close();
    return error == 0 ? absl::OkStatus() : Fail(kCannotClose, path_, {}, ErrorText(error));
  }

  const std::string& path() const override { return path_; }
  bool locked() const override { return locked_; }

 private:
  Descriptor fd_;
  std::string path_;
  bool locked_;
};

// Whether `path` still leads to the file behind `fd`. lstat, because a link at `path` is not that file.
bool StillAt(int fd, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && IdentityOf(opened) == IdentityOf(named);
}

// A file just opened for writing, and whether this call made it.
struct OpenedForWrite {
  Descriptor fd{-1};
  bool created = false;
};

// O_NOFOLLOW: a link planted under the partial file's predictable name must not redirect the write. O_NONBLOCK: a FIFO
// there fails with ENXIO instead of waiting for a reader. No O_TRUNC: the file may be another run's until the lock is
// held. Creating comes first, so that it is known who made the file.
absl::StatusOr<OpenedForWrite> OpenOrCreate(const std::string& path, bool exclusive) {
  constexpr int kFlags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  const auto open = [&](int more) { return RetryOnEintr([&] { return ::open(path.c_str(), kFlags | more, 0666); }); };
  OpenedForWrite opened{Descriptor(open(O_CREAT | O_EXCL)), true};
  if (!opened.fd.valid() && errno == EEXIST && !exclusive) opened = {Descriptor(open(O_CREAT)), false};
  if (!opened.fd.valid()) {
    // Each errno that names a mistake of the user gets the rule that says so.
    if (errno == EEXIST) return Fail(kOutputExists, path, {});
    if (errno == ELOOP) return Fail(kOutputNotARegularFile, path, {}, "got a symbolic link");
    if (errno == EISDIR || errno == ENXIO) return Fail(kOutputNotARegularFile, path, {}, ErrorText(errno));
    return Fail(kCannotCreate, path, {}, ErrorText(errno) + WhyNot(path, errno));
  }
  // What was opened is asked, not the path: a FIFO with a reader or a device opens without an error.
  struct stat info {};
  if (::fstat(opened.fd.get(), &info) != 0) return Fail(kCannotStat, path, {}, ErrorText(errno));
  if (!S_ISREG(info.st_mode)) return Fail(kOutputNotARegularFile, path, {}, "got " + std::string(KindOf(info)));
  return opened;
}

// Opens for writing and takes the lock. `exclusive`: the file must not exist; then it is given out even where the file
// system has no locks.
absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path, bool exclusive) {
  // The previous owner may publish or remove the file between our open and our lock. Then the lock is on a file that is
  // no longer at `path`, and the file now there must be opened. Owners come one at a time; a few rounds are plenty.
  constexpr int kRounds = 16;
  for (int round = 0; round < kRounds; ++round) {
    Q4_ASSIGN_OR_RETURN(OpenedForWrite opened, OpenOrCreate(path, exclusive));
    const int fd = opened.fd.get();
    // flock belongs to the open file, so it ends with the process however that ends, and holds between two objects of
    // one process as well.
    const int error = RetryOnEintr([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0 ? 0 : errno;
    if (error == EWOULDBLOCK) return Fail(kOutputInUse, path, {});
    if (error != 0) {
      // ENOLCK: a network file system whose lock service does not answer.
      const bool no_locks = IsUnknownHere(error) || error == ENOLCK;
      if (no_locks && exclusive) return std::make_unique<PosixWriteFile>(std::move(opened.fd), path, /*locked=*/false);
      // Nobody else has written to it: without locks no name that exists already is ever written to.
      if (opened.created && StillAt(fd, path)) ::unlink(path.c_str());
      return Fail(no_locks ? kCannotLock : kCannotCreate, path, "lock", ErrorText(error));
    }
    if (StillAt(fd, path)) return std::make_unique<PosixWriteFile>(std::move(opened.fd), path, /*locked=*/true);
  }
  return Fail(kOutputInUse, path, {}, "it is being replaced again and again");
}

int ErrorOf(int result) { return result == 0 ? 0 : errno; }

// What lies at a path, links not followed; nullopt for nothing, or if it cannot be told.
std::optional<struct stat> At(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 ? std::optional(info) : std::nullopt;
}

// The result of removing `path`: what is not there counts as removed, also by a call whose reply got lost.
absl::Status Gone(const std::string& path, int error) {
  if (error == 0 || error == ENOENT || (!At(path) && errno == ENOENT)) return absl::OkStatus();
  return Fail(kCannotRemove, path, {}, ErrorText(error));
}

// Whether `to` is the file that `moved` was taken of. Some file systems number nothing (inode 0), and a number may be
// given again, so size and time are compared too.
bool IsAt(const std::string& to, const struct stat& moved) {
  const std::optional<struct stat> there = At(to);
  return there && moved.st_ino != 0 && IdentityOf(*there) == IdentityOf(moved) && there->st_size == moved.st_size &&
         there->st_mtim.tv_sec == moved.st_mtim.tv_sec;
}

// The way of file systems that lack RENAME_NOREPLACE, NFS for one: link() fails atomically when the name is taken.
// Between the two calls the file has both names. An error of link() whose target is the file is success: the reply of
// a server can get lost, and the call that is sent again then finds its own work.
int LinkAndUnlink(const std::string& from, const std::string& to, const struct stat& moved) {
  const int error = ErrorOf(::link(from.c_str(), to.c_str()));
  if (error != 0 && !IsAt(to, moved)) return error;
  const int gone = ErrorOf(::unlink(from.c_str()));
  return gone == ENOENT ? 0 : gone;
}

// The error number of a rename to a name that must be free. Each way is taken only where the one before is unknown to
// the file system.
int RenameToFreeName(const std::string& from, const std::string& to, const struct stat& moved) {
  int error = ErrorOf(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE));
  // The target is this very file: a writer that went the second way has died between its two calls.
  if (error == EEXIST && !S_ISDIR(moved.st_mode) && IsAt(to, moved)) return ErrorOf(::unlink(from.c_str()));
  if (!IsUnknownHere(error)) return error;
  if (!S_ISDIR(moved.st_mode)) {
    error = LinkAndUnlink(from, to, moved);
    // EPERM: there are no hard links, on FAT or in a bucket. EMLINK: there may be no second name.
    if (!IsUnknownHere(error) && error != EPERM && error != EMLINK) return error;
  }
  // The last way looks first and then renames. Of a directory that loses nothing, as rename() replaces only an empty
  // one; a file that appears in the moment between is replaced (docs/safety.md).
  if (At(to)) return EEXIST;
  return errno == ENOENT ? ErrorOf(std::rename(from.c_str(), to.c_str())) : errno;
}

class PosixFileSystemImpl final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    // O_NONBLOCK: opening a FIFO must not wait for its writer. It means nothing for regular files.
    // O_NOCTTY: a terminal must not become the process's own.
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (links == SymbolicLinks::kFollow ? 0 : O_NOFOLLOW);
    Descriptor fd(RetryOnEintr([&] { return ::open(path.c_str(), flags); }));
    if (!fd.valid() && errno == ELOOP && links == SymbolicLinks::kRefuse) {
      Q4_ASSIGN_OR_RETURN(const std::string file, HubCacheFile(*this, path));
      if (file.empty()) return Fail(kSymbolicLink, path, {});
      // The file itself and not the link, which may have been exchanged since it was looked at.
      fd = Descriptor(RetryOnEintr([&] { return ::open(file.c_str(), flags); }));
    }
    if (!fd.valid()) {
      if (errno == ELOOP && links != SymbolicLinks::kFollow) return Fail(kSymbolicLink, path, {});
      if (errno == ENXIO) return Fail(kNotARegularFile, path, {}, ErrorText(errno));  // a socket
      const int error = errno;
      return Fail(kCannotOpen, path, {}, ErrorText(error) + (error == ENOENT ? WhyMissing(path) : ""));
    }
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return Fail(kCannotStat, path, {}, ErrorText(errno));
    if (!S_ISREG(info.st_mode)) return Fail(kNotARegularFile, path, {}, "got " + std::string(KindOf(info)));
    return std::make_unique<PosixReadFile>(std::move(fd), path, info);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    return OpenForWrite(path, /*exclusive=*/true);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    return OpenForWrite(path, /*exclusive=*/false);
  }

  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    const std::optional<struct stat> moved = At(from);
    if (!moved) return Fail(kCannotRename, to, {}, ErrorText(errno));
    int error = replace ? ErrorOf(std::rename(from.c_str(), to.c_str())) : RenameToFreeName(from, to, *moved);
    // A network file system may report an error although the server did it: the old name is gone, the new one is ours.
    if (error != 0 && !At(from) && errno == ENOENT && IsAt(to, *moved)) error = 0;
    if (error == 0) return absl::OkStatus();
    if (error == EEXIST && !replace) return Fail(kOutputExists, to, {});
    return Fail(kCannotRename, to, {}, ErrorText(error));
  }

  absl::Status Exchange(const std::string& a, const std::string& b) override {
    const std::optional<struct stat> at_a = At(a);
    const int error = ErrorOf(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
    if (error == 0 || (at_a && IsAt(b, *at_a))) return absl::OkStatus();
    return Fail(kCannotRename, b, {}, ErrorText(error));
  }

  absl::Status CopyMode(const std::string& from, const std::string& to) override {
    const std::optional<struct stat> info = At(from);
    // File systems without modes refuse, or do nothing.
    if (info && (::chmod(to.c_str(), info->st_mode & 07777) == 0 || IsUnknownHere(errno) || errno == EPERM)) {
      return absl::OkStatus();
    }
    return Fail(kCannotCreateDirectory, to, "mode", ErrorText(errno));
  }

  // A rename is durable when its directory was synced.
  absl::Status SyncDirectory(const std::string& directory) override {
    Descriptor fd(RetryOnEintr([&] { return ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd.valid()) return Fail(kCannotSync, directory, {}, ErrorText(errno));
    // Some network and FUSE file systems cannot sync a directory and say so.
    if (RetryOnEintr([&] { return ::fsync(fd.get()); }) == 0 || IsUnknownHere(errno)) return absl::OkStatus();
    return Fail(kCannotSync, directory, {}, ErrorText(errno));
  }

  absl::Status Remove(const std::string& path) override { return Gone(path, ErrorOf(::unlink(path.c_str()))); }

  absl::Status RemoveDirectory(const std::string& path) override { return Gone(path, ErrorOf(::rmdir(path.c_str()))); }

  absl::Status CreateDirectory(const std::string& path) override {
    if (::mkdir(path.c_str(), 0777) == 0) return absl::OkStatus();
    if (errno == EEXIST) return Fail(kOutputExists, path, {});
    return Fail(kCannotCreateDirectory, path, {}, ErrorText(errno) + WhyNot(path, errno));
  }

  // Two calls for a link, so that the caller learns of the link and of what it leads to. ENOTDIR: a component on the
  // way is a file, so nothing lies at the path either.
  absl::StatusOr<PathInfo> Stat(const std::string& path) override {
    PathInfo info;
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) return info;
      return Fail(kCannotStat, path, {}, ErrorText(errno) + WhyNot(path, errno));
    }
    info.is_symlink = S_ISLNK(found.st_mode);
    if (info.is_symlink && ::stat(path.c_str(), &found) != 0) {
      if (errno == ENOENT || errno == ENOTDIR) return info;
      return Fail(kCannotStat, path, {}, ErrorText(errno) + WhyNot(path, errno));
    }
    info.exists = true;
    info.is_regular = S_ISREG(found.st_mode);
    info.is_directory = S_ISDIR(found.st_mode);
    info.size = static_cast<std::uint64_t>(found.st_size);
    info.identity = IdentityOf(found);
    info.version = VersionOf(found);
    return info;
  }

  absl::StatusOr<std::string> ReadLink(const std::string& path) override {
    // As long as any path may be; a longer text would be cut without a word.
    std::string text(PATH_MAX, '\0');
    const ssize_t bytes = ::readlink(path.c_str(), text.data(), text.size());
    if (bytes < 0) return Fail(kCannotStat, path, {}, ErrorText(errno));
    text.resize(static_cast<std::size_t>(bytes));
    return text;
  }

  absl::StatusOr<std::string> RealPath(const std::string& directory) override {
    const std::unique_ptr<char, decltype(&std::free)> path(::realpath(directory.c_str(), nullptr), &std::free);
    if (path == nullptr) return Fail(kCannotStat, directory, {}, ErrorText(errno));
    return std::string(path.get());
  }

  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) override {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
    if (directory == nullptr) return Fail(kCannotList, path, {}, ErrorText(errno));
    std::vector<std::string> names;
    // readdir() returns null at the end and for an error; errno alone tells them apart.
    errno = 0;
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    if (errno != 0) return Fail(kCannotList, path, {}, ErrorText(errno));
    std::sort(names.begin(), names.end());
    return names;
  }
};

}  // namespace

FileSystem& PosixFileSystem() {
  static PosixFileSystemImpl file_system;
  return file_system;
}

}  // namespace q4
