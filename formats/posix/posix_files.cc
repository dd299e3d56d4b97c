// Reading and writing at positions. Every call that a signal can interrupt is repeated, and every count is checked.
#include "formats/posix/posix_files.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// Linux transfers at most 0x7ffff000 bytes per call. A round number below it keeps offsets aligned.
constexpr std::size_t kMaxTransferBytes = std::size_t{1} << 30;

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

}  // namespace

std::unique_ptr<RandomAccessFile> ReadFileOf(Descriptor fd, std::string path, const struct stat& info) {
  return std::make_unique<PosixReadFile>(std::move(fd), std::move(path), info);
}

std::unique_ptr<WritableFile> WriteFileOf(Descriptor fd, std::string path, bool locked) {
  return std::make_unique<PosixWriteFile>(std::move(fd), std::move(path), locked);
}

}  // namespace q4
