// What the files that call the operating system (file_posix.cc, posix_*.cc) have in common. Internal to formats/posix/.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "fmt/format.h"
#include "formats/base/file.h"

namespace q4 {

// The system's text for an error number, to stand in brackets behind the rule that was broken.
inline std::string ErrorText(int error) { return std::generic_category().message(error); }

// Repeats a system call that returns -1 with EINTR.
template <typename Call>
auto RetryOnEintr(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

// Whether a call failed because this kernel or file system does not know it, rather than for what it was asked to do.
// EINVAL is how a file system refuses flags that it does not know.
inline bool IsUnknownHere(int error) { return error == ENOSYS || error == EOPNOTSUPP || error == EINVAL; }

// What lies there instead of a regular file, for messages.
inline std::string_view KindOf(const struct stat& info) {
  if (S_ISDIR(info.st_mode)) return "a directory";
  if (S_ISFIFO(info.st_mode)) return "a FIFO";
  if (S_ISSOCK(info.st_mode)) return "a socket";
  if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) return "a device";
  return "neither file nor directory";
}

inline FileIdentity IdentityOf(const struct stat& info) { return {info.st_dev, info.st_ino}; }

// No program can set the change time back, as it can the modification time.
inline FileVersion VersionOf(const struct stat& info) {
  return {static_cast<std::uint64_t>(info.st_size),
          fmt::format("{}.{:09} {}.{:09} {} {}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                      info.st_ctim.tv_nsec, info.st_ino, info.st_dev)};
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() : fd_(-1) {}
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
  // Somebody else closes it.
  void Release() { fd_ = -1; }
  bool valid() const { return fd_ >= 0; }
  // 0, or the error number. On Linux the descriptor is gone even after EINTR, and must not be closed again.
  int Close() {
    const int result = ::close(std::exchange(fd_, -1));
    return result == 0 || errno == EINTR ? 0 : errno;
  }

 private:
  int fd_;
};

}  // namespace q4
