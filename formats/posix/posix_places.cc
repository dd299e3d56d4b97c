// A held directory is an open descriptor and the path that it is known by. A path below it is walked from there,
// component by component, and never through a link; so nobody can lead a call elsewhere by exchanging a directory on
// the way.
#include "formats/posix/posix_places.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

constexpr int kHoldFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// The part of `path` below the directory `held`, without the slash between; nullopt if it does not lie there as a text,
// or leads up again.
std::optional<std::string> Below(const std::string& path, const std::string& held) {
  std::string rest;
  if (held == ".") {
    if (path.empty() || path.front() == '/' || path == ".") return std::nullopt;
    rest = path;
  } else {
    const std::string prefix = held.ends_with('/') ? held : held + "/";
    if (!path.starts_with(prefix) || path.size() == prefix.size()) return std::nullopt;
    rest = path.substr(prefix.size());
  }
  if (("/" + rest + "/").find("/../") != std::string::npos) return std::nullopt;
  return rest;
}

// `rest`, walked from `held`.
Place Walk(std::shared_ptr<Descriptor> held, const std::string& rest) {
  std::size_t begin = 0;
  for (std::size_t slash = rest.find('/'); slash != std::string::npos; slash = rest.find('/', begin)) {
    const std::string component = rest.substr(begin, slash - begin);
    begin = slash + 1;
    if (component.empty() || component == ".") continue;
    auto next = std::make_shared<Descriptor>(
        RetryOnEintr([&] { return ::openat(held->get(), component.c_str(), kHoldFlags); }));
    // A link: O_DIRECTORY comes first, and its error would say that nothing lies there.
    if (!next->valid()) return Place::Unreachable(errno == ENOTDIR ? ELOOP : errno);
    held = std::move(next);
  }
  return {std::move(held), rest.substr(begin)};
}

// What fstat says of a new file in `directory`. Without a name where the file system can do that.
std::optional<struct stat> NewFileIn(const std::string& directory) {
  constexpr int kFlags = O_WRONLY | O_CLOEXEC;
  struct stat info {};
  const Descriptor unnamed(::open(directory.c_str(), kFlags | O_TMPFILE, 0666));
  if (unnamed.valid()) return ::fstat(unnamed.get(), &info) == 0 ? std::optional(info) : std::nullopt;
  std::random_device random;
  const std::string path = fmt::format("{}/.q4-{:08x}{:08x}.q4-probe", directory, random(), random());
  const Descriptor named(::open(path.c_str(), kFlags | O_CREAT | O_EXCL | O_NOFOLLOW, 0666));
  if (!named.valid()) return std::nullopt;
  const bool asked = ::fstat(named.get(), &info) == 0;
  ::unlink(path.c_str());
  return asked ? std::optional(info) : std::nullopt;
}

constexpr char kWayOut[] = "; remove it, or choose an output in a folder that nobody else may write";

}  // namespace

Place Place::Unreachable(int error) {
  Place place{std::string()};
  place.error_ = error;
  return place;
}

Descriptor Place::Open(int flags) const {
  if (error_ != 0) {
    errno = error_;
    return {};
  }
  if (directory_) flags |= O_NOFOLLOW;
  return Descriptor(RetryOnEintr([&] { return ::openat(directory(), name(), flags, 0666); }));
}

std::optional<struct stat> Place::Look(bool follow) const {
  struct stat info {};
  if (error_ != 0) {
    errno = error_;
    return std::nullopt;
  }
  return ::fstatat(directory(), name(), &info, follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0 ? std::optional(info)
                                                                                      : std::nullopt;
}

int Place::Unlink(int flags) const {
  if (error_ != 0) {
    errno = error_;
    return -1;
  }
  return ::unlinkat(directory(), name(), flags);
}

// What a caller holds: it only names an entry of the list.
class HeldDirectories::Held final : public HeldDirectory {
 public:
  Held(HeldDirectories* all, FileIdentity identity) : all_(*all), identity_(identity) {}
  ~Held() override {
    const std::scoped_lock lock(all_.mutex_);
    std::erase_if(all_.entries_, [this](const Entry& entry) { return entry.holder == this; });
  }
  void MovedTo(const std::string& path) override {
    const std::scoped_lock lock(all_.mutex_);
    for (Entry& entry : all_.entries_) {
      if (entry.holder == this) entry.path = path;
    }
  }
  FileIdentity identity() const override { return identity_; }

 private:
  HeldDirectories& all_;
  const FileIdentity identity_;
};

absl::StatusOr<std::unique_ptr<HeldDirectory>> HeldDirectories::Hold(const std::string& path) {
  auto fd = std::make_shared<Descriptor>(Inside(path).Open(kHoldFlags));
  struct stat info {};
  if (!fd->valid() || ::fstat(fd->get(), &info) != 0) return Fail(kCannotStat, path, {}, ErrorText(errno));
  auto held = std::make_unique<Held>(this, IdentityOf(info));
  const std::scoped_lock lock(mutex_);
  entries_.push_back({held.get(), path, std::move(fd)});
  return held;
}

Place HeldDirectories::Find(const std::string& path) const {
  std::shared_ptr<Descriptor> fd;
  std::string rest;
  {
    const std::scoped_lock lock(mutex_);
    std::size_t longest = 0;
    for (const Entry& entry : entries_) {
      if (fd != nullptr && entry.path.size() < longest) continue;
      if (std::optional<std::string> below = Below(path, entry.path)) {
        fd = entry.fd;
        rest = *std::move(below);
        longest = entry.path.size();
      }
    }
  }
  return fd == nullptr ? Place(path) : Walk(std::move(fd), rest);
}

Place HeldDirectories::Inside(const std::string& path) const {
  {
    const std::scoped_lock lock(mutex_);
    const auto entry = std::find_if(entries_.rbegin(), entries_.rend(), [&](const Entry& e) { return e.path == path; });
    if (entry != entries_.rend()) return {entry->fd, "."};
  }
  return Find(path);
}

absl::Status CheckOwner(const struct stat& info, const std::string& path, bool shared) {
  constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;
  shared = shared || S_ISLNK(info.st_mode);  // a link has all bits, and they mean nothing
  if (info.st_uid == ::geteuid() && (shared || (info.st_mode & kOthersWrite) == 0)) return absl::OkStatus();
  const std::optional<struct stat> ours = NewFileIn(DirectoryOf(path));
  const uid_t owner = ours ? ours->st_uid : ::geteuid();
  const mode_t allowed = ours ? ours->st_mode & kOthersWrite : 0;
  if (info.st_uid != owner) {
    return Fail(kForeignOwner, path, {},
                GotExpected(fmt::format("owner {}", info.st_uid), fmt::format("owner {}", owner)) + kWayOut);
  }
  if (!shared && (info.st_mode & kOthersWrite & ~allowed) != 0) {
    return Fail(kForeignOwner, path, {},
                GotExpected(fmt::format("mode {:04o}", info.st_mode & 07777),
                            fmt::format("mode {:04o}", info.st_mode & 07777 & ~(kOthersWrite & ~allowed))) +
                    kWayOut);
  }
  return absl::OkStatus();
}

absl::Status CheckOneName(const struct stat& info, const std::string& path) {
  if (info.st_nlink <= 1) return absl::OkStatus();
  return Fail(kForeignOwner, path, {},
              GotExpected(fmt::format("a file with {} names", info.st_nlink), "one name") + kWayOut);
}

}  // namespace q4
