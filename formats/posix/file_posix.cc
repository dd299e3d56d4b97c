// The POSIX file system. Every call that a signal can interrupt is repeated, every count is checked, and every
// descriptor is closed on exec. What is open is decided by fstat on the descriptor, never by an earlier look at the
// path.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/file.h"
#include "formats/names/hub_cache.h"
#include "formats/posix/path_hints.h"
#include "formats/posix/posix.h"
#include "formats/posix/posix_files.h"
#include "formats/posix/posix_places.h"

namespace q4 {
namespace {

// Whether `place` still is the file behind `fd`. A link there is not that file.
bool StillAt(int fd, const Place& place) {
  struct stat opened {};
  const std::optional<struct stat> named = place.Look();
  return ::fstat(fd, &opened) == 0 && named && IdentityOf(opened) == IdentityOf(*named);
}

// A file just opened for writing, and whether this call made it.
struct OpenedForWrite {
  Descriptor fd;
  bool created = false;
};

// O_NOFOLLOW: a link planted under the partial file's predictable name must not redirect the write. O_NONBLOCK: a FIFO
// there fails with ENXIO instead of waiting for a reader. No O_TRUNC: the file may be another run's until the lock is
// held. Creating comes first, so that it is known who made the file. What exists is opened without O_CREAT: with it a
// kernel may refuse another user's file in a shared directory (fs.protected_regular) before we can say whose it is.
absl::StatusOr<OpenedForWrite> OpenOrCreate(const Place& place, const std::string& path, bool exclusive) {
  constexpr int kFlags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  constexpr int kRounds = 16;  // between the two ways of opening the file may go
  OpenedForWrite opened;
  for (int round = 0; round < kRounds; ++round) {
    opened = {place.Open(kFlags | O_CREAT | O_EXCL), true};
    if (opened.fd.valid() || errno != EEXIST || exclusive) break;
    opened = {place.Open(kFlags), false};
    if (opened.fd.valid() || errno != ENOENT) break;
  }
  if (!opened.fd.valid()) {
    const int error = errno;
    // Each errno that names a mistake of the user gets the rule that says so.
    if (error == EEXIST) return Fail(kOutputExists, path, {});
    if (error == ELOOP) return Fail(kOutputNotARegularFile, path, {}, "got a symbolic link");
    if (error == EISDIR || error == ENXIO) return Fail(kOutputNotARegularFile, path, {}, ErrorText(error));
    const std::optional<struct stat> there = place.Look();
    if (error == EACCES && there) Q4_RETURN_IF_ERROR(CheckOwner(*there, path, /*shared=*/false));
    return Fail(kCannotCreate, path, {}, ErrorText(error) + WhyNot(path, error));
  }
  // What was opened is asked, not the path: a FIFO with a reader or a device opens without an error.
  struct stat info {};
  if (::fstat(opened.fd.get(), &info) != 0) return Fail(kCannotStat, path, {}, ErrorText(errno));
  if (!S_ISREG(info.st_mode)) return Fail(kOutputNotARegularFile, path, {}, "got " + std::string(KindOf(info)));
  if (!opened.created) Q4_RETURN_IF_ERROR(CheckOwner(info, path, /*shared=*/false));
  return opened;
}

// Opens for writing and takes the lock. `exclusive`: the file must not exist; then it is given out even where the file
// system has no locks.
absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWrite(const Place& place, const std::string& path,
                                                           bool exclusive) {
  // The previous owner may publish or remove the file between our open and our lock. Then the lock is on a file that is
  // no longer at `path`, and the file now there must be opened. Owners come one at a time; a few rounds are plenty.
  constexpr int kRounds = 16;
  for (int round = 0; round < kRounds; ++round) {
    Q4_ASSIGN_OR_RETURN(OpenedForWrite opened, OpenOrCreate(place, path, exclusive));
    const int fd = opened.fd.get();
    // flock belongs to the open file, so it ends with the process however that ends, and holds between two objects of
    // one process as well.
    const int error = RetryOnEintr([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0 ? 0 : errno;
    if (error == EWOULDBLOCK) return Fail(kOutputInUse, path, {});
    if (error != 0) {
      // ENOLCK: a network file system whose lock service does not answer.
      const bool no_locks = IsUnknownHere(error) || error == ENOLCK;
      if (no_locks && exclusive) return WriteFileOf(std::move(opened.fd), path, /*locked=*/false);
      // Nobody else has written to it: without locks no name that exists already is ever written to.
      if (opened.created && StillAt(fd, place)) place.Unlink(0);
      return Fail(no_locks ? kCannotLock : kCannotCreate, path, "lock", ErrorText(error));
    }
    if (StillAt(fd, place)) return WriteFileOf(std::move(opened.fd), path, /*locked=*/true);
  }
  return Fail(kOutputInUse, path, {}, "it is being replaced again and again");
}

int ErrorOf(int result) { return result == 0 ? 0 : errno; }

// The result of removing what was at `place`: what is not there counts as removed, also by a call whose reply got lost.
absl::Status Gone(const Place& place, const std::string& path, int error) {
  if (error == 0 || error == ENOENT || (!place.Look() && errno == ENOENT)) return absl::OkStatus();
  return Fail(kCannotRemove, path, {}, ErrorText(error));
}

// Whether `to` is the file that `moved` was taken of. Some file systems number nothing (inode 0), and a number may be
// given again, so size and time are compared too.
bool IsAt(const Place& to, const struct stat& moved) {
  const std::optional<struct stat> there = to.Look();
  return there && moved.st_ino != 0 && IdentityOf(*there) == IdentityOf(moved) && there->st_size == moved.st_size &&
         there->st_mtim.tv_sec == moved.st_mtim.tv_sec;
}

// The way of file systems that lack RENAME_NOREPLACE, NFS for one: link() fails atomically when the name is taken.
// Between the two calls the file has both names. An error of link() whose target is the file is success: the reply of
// a server can get lost, and the call that is sent again then finds its own work.
int LinkAndUnlink(const Place& from, const Place& to, const struct stat& moved) {
  const int error = ErrorOf(::linkat(from.directory(), from.name(), to.directory(), to.name(), 0));
  if (error != 0 && !IsAt(to, moved)) return error;
  const int gone = ErrorOf(from.Unlink(0));
  return gone == ENOENT ? 0 : gone;
}

// The error number of a rename to a name that must be free. Each way is taken only where the one before is unknown to
// the file system.
int RenameToFreeName(const Place& from, const Place& to, const struct stat& moved) {
  int error = ErrorOf(::renameat2(from.directory(), from.name(), to.directory(), to.name(), RENAME_NOREPLACE));
  // The target is this very file: a writer that went the second way has died between its two calls.
  if (error == EEXIST && !S_ISDIR(moved.st_mode) && IsAt(to, moved)) return ErrorOf(from.Unlink(0));
  if (!IsUnknownHere(error)) return error;
  if (!S_ISDIR(moved.st_mode)) {
    error = LinkAndUnlink(from, to, moved);
    // EPERM: there are no hard links, on FAT or in a bucket. EMLINK: there may be no second name.
    if (!IsUnknownHere(error) && error != EPERM && error != EMLINK) return error;
  }
  // The last way looks first and then renames. Of a directory that loses nothing, as rename() replaces only an empty
  // one; a file that appears in the moment between is replaced (docs/safety.md).
  if (to.Look()) return EEXIST;
  return errno == ENOENT ? ErrorOf(::renameat(from.directory(), from.name(), to.directory(), to.name())) : errno;
}

class PosixFileSystemImpl final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    // O_NONBLOCK: opening a FIFO must not wait for its writer. It means nothing for regular files.
    // O_NOCTTY: a terminal must not become the process's own.
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (links == SymbolicLinks::kFollow ? 0 : O_NOFOLLOW);
    // What q4 itself put there is read where it put it.
    const auto open = [&] { return (links == SymbolicLinks::kNever ? held_.Find(path) : Place(path)).Open(flags); };
    Descriptor fd = open();
    // NFS: what the client remembers of the folder is older than the file. Asked again, the server says how it is.
    if (!fd.valid() && errno == ESTALE) fd = open();
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
    return ReadFileOf(std::move(fd), path, info);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    return OpenForWrite(held_.Find(path), path, /*exclusive=*/true);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    return OpenForWrite(held_.Find(path), path, /*exclusive=*/false);
  }

  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    const Place source = held_.Find(from), target = held_.Find(to);
    const std::optional<struct stat> moved = source.Look();
    const int unseen = moved ? target.error() : errno;
    int error = unseen != 0 ? unseen
                : replace   ? ErrorOf(::renameat(source.directory(), source.name(), target.directory(), target.name()))
                            : RenameToFreeName(source, target, *moved);
    // A network file system may report an error although the server did it: the old name is gone, the new one is ours.
    if (error != 0 && unseen == 0 && !source.Look() && errno == ENOENT && IsAt(target, *moved)) error = 0;
    if (error == 0) return absl::OkStatus();
    if (error == EEXIST && !replace) return Fail(kOutputExists, to, {});
    return Fail(kCannotRename, to, {}, ErrorText(error));
  }

  absl::Status Exchange(const std::string& a, const std::string& b) override {
    const Place one = held_.Find(a), other = held_.Find(b);
    const std::optional<struct stat> at_a = one.Look();
    const int error =
        ErrorOf(::renameat2(one.directory(), one.name(), other.directory(), other.name(), RENAME_EXCHANGE));
    if (error == 0 || (at_a && IsAt(other, *at_a))) return absl::OkStatus();
    return Fail(kCannotRename, b, {}, ErrorText(error));
  }

  absl::Status CopyMode(const std::string& from, const std::string& to) override {
    const std::optional<struct stat> info = held_.Inside(from).Look();
    // File systems without modes refuse, or do nothing.
    if (info) {
      const Place place = held_.Inside(to);
      if (::fchmodat(place.directory(), place.name(), info->st_mode & 07777, 0) == 0 || IsUnknownHere(errno) ||
          errno == EPERM) {
        return absl::OkStatus();
      }
    }
    return Fail(kCannotCreateDirectory, to, "mode", ErrorText(errno));
  }

  // A rename is durable when its directory was synced.
  absl::Status SyncDirectory(const std::string& directory) override {
    const Descriptor fd = held_.Inside(directory).Open(O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!fd.valid()) return Fail(kCannotSync, directory, {}, ErrorText(errno));
    // Some network and FUSE file systems cannot sync a directory and say so.
    if (RetryOnEintr([&] { return ::fsync(fd.get()); }) == 0 || IsUnknownHere(errno)) return absl::OkStatus();
    return Fail(kCannotSync, directory, {}, ErrorText(errno));
  }

  absl::Status Remove(const std::string& path) override {
    const Place place = held_.Find(path);
    return Gone(place, path, ErrorOf(place.Unlink(0)));
  }

  absl::Status RemoveDirectory(const std::string& path) override {
    const Place place = held_.Find(path);
    return Gone(place, path, ErrorOf(place.Unlink(AT_REMOVEDIR)));
  }

  absl::Status CreateDirectory(const std::string& path) override {
    const Place place = held_.Find(path);
    if (place.error() != 0) return Fail(kCannotCreateDirectory, path, {}, ErrorText(place.error()));
    if (::mkdirat(place.directory(), place.name(), 0777) == 0) return absl::OkStatus();
    if (errno == EEXIST) return Fail(kOutputExists, path, {});
    return Fail(kCannotCreateDirectory, path, {}, ErrorText(errno) + WhyNot(path, errno));
  }

  // Two calls for a link, so that the caller learns of the link and of what it leads to. ENOTDIR: a component on the
  // way is a file, so nothing lies at the path either. Nothing is done to what a look finds, so one may go by links.
  absl::StatusOr<PathInfo> Stat(const std::string& path) override {
    PathInfo info;
    Place place = held_.Find(path);
    std::optional<struct stat> found = place.Look();
    if (!found && place.error() != 0) {
      place = Place(path);
      found = place.Look();
    }
    if (found) {
      info.is_symlink = S_ISLNK(found->st_mode);
      if (info.is_symlink) found = place.Look(/*follow=*/true);
    }
    if (!found) {
      if (errno == ENOENT || errno == ENOTDIR) return info;
      return Fail(kCannotStat, path, {}, ErrorText(errno) + WhyNot(path, errno));
    }
    info.exists = true;
    info.is_regular = S_ISREG(found->st_mode);
    info.is_directory = S_ISDIR(found->st_mode);
    info.size = static_cast<std::uint64_t>(found->st_size);
    info.identity = IdentityOf(*found);
    info.version = VersionOf(*found);
    info.owner = found->st_uid;
    return info;
  }

  absl::Status CheckOurs(const std::string& path, bool shared) override {
    const std::optional<struct stat> found = held_.Inside(path).Look();
    if (!found) return Fail(kCannotStat, path, {}, ErrorText(errno));
    Q4_RETURN_IF_ERROR(CheckOwner(*found, path, shared));
    return S_ISREG(found->st_mode) && !shared ? CheckOneName(*found, path) : absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<HeldDirectory>> Hold(const std::string& path) override { return held_.Hold(path); }

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
    Descriptor fd = held_.Inside(path).Open(O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(fd.valid() ? ::fdopendir(fd.get()) : nullptr, &::closedir);
    if (directory != nullptr) fd.Release();
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

 private:
  HeldDirectories held_;
};

}  // namespace

FileSystem& PosixFileSystem() {
  static PosixFileSystemImpl file_system;
  return file_system;
}

}  // namespace q4
