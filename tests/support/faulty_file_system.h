// The system's files, or those of another file system, with one call that fails.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/base_issues.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "tests/support/forwarding_file_system.h"

namespace q4::test {

// Whether removing is among the calls that can fail. Where it is not, what a failure leaves behind can be checked.
enum class Removals { kSucceed, kCanFail };

// Fails the call with this number among all that can fail, reads and writes alike; a failing write has written half.
// Thread-safe.
class FaultyFileSystem final : public ForwardingFileSystem {
 public:
  explicit FaultyFileSystem(std::int64_t fail_at, Removals removals = Removals::kSucceed,
                            FileSystem& base = PosixFileSystem())
      : ForwardingFileSystem(base), fail_at_(fail_at), removals_(removals) {}

  std::int64_t calls() const { return calls_.load(); }
  bool failed() const { return calls_.load() > fail_at_; }
  // Which one it was: "Stat model.safetensors"; "" if none has failed.
  std::string failed_call() const {
    const std::lock_guard lock(mutex_);
    return failed_call_;
  }

  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    Q4_RETURN_IF_ERROR(Meet("OpenForRead", path));
    Q4_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::OpenForRead(path, links));
    return std::make_unique<Readable>(this, std::move(file));
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet("CreateExclusive", path));
    Q4_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::CreateExclusive(path));
    return std::make_unique<Writable>(this, std::move(file));
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet("OpenLocked", path));
    Q4_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::OpenLocked(path));
    return std::make_unique<Writable>(this, std::move(file));
  }
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    Q4_RETURN_IF_ERROR(Meet("Rename", from));
    return ForwardingFileSystem::Rename(from, to, replace);
  }
  absl::Status Exchange(const std::string& a, const std::string& b) override {
    Q4_RETURN_IF_ERROR(Meet("Exchange", a));
    return ForwardingFileSystem::Exchange(a, b);
  }
  absl::Status CopyMode(const std::string& from, const std::string& to) override {
    Q4_RETURN_IF_ERROR(Meet("CopyMode", from));
    return ForwardingFileSystem::CopyMode(from, to);
  }
  absl::Status SyncDirectory(const std::string& directory) override {
    Q4_RETURN_IF_ERROR(Meet("SyncDirectory", directory));
    return ForwardingFileSystem::SyncDirectory(directory);
  }
  absl::Status Remove(const std::string& path) override {
    if (removals_ == Removals::kCanFail) Q4_RETURN_IF_ERROR(Meet("Remove", path));
    return ForwardingFileSystem::Remove(path);
  }
  absl::Status RemoveDirectory(const std::string& path) override {
    if (removals_ == Removals::kCanFail) Q4_RETURN_IF_ERROR(Meet("RemoveDirectory", path));
    return ForwardingFileSystem::RemoveDirectory(path);
  }
  absl::Status CreateDirectory(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet("CreateDirectory", path));
    return ForwardingFileSystem::CreateDirectory(path);
  }
  absl::StatusOr<PathInfo> Stat(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet("Stat", path));
    return ForwardingFileSystem::Stat(path);
  }
  absl::Status CheckOurs(const std::string& path, bool shared) override {
    Q4_RETURN_IF_ERROR(Meet("CheckOurs", path));
    return ForwardingFileSystem::CheckOurs(path, shared);
  }
  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet("ListDirectory", path));
    return ForwardingFileSystem::ListDirectory(path);
  }

 private:
  class Readable final : public ForwardingFile {
   public:
    Readable(FaultyFileSystem* fs, std::unique_ptr<RandomAccessFile> file)
        : ForwardingFile(std::move(file)), fs_(*fs) {}
    absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
      Q4_RETURN_IF_ERROR(fs_.Meet("ReadAt", path()));
      return ForwardingFile::ReadAt(offset, out);
    }
    absl::StatusOr<FileVersion> VersionNow() const override {
      Q4_RETURN_IF_ERROR(fs_.Meet("VersionNow", path()));
      return ForwardingFile::VersionNow();
    }

   private:
    FaultyFileSystem& fs_;
  };

  class Writable final : public ForwardingWritableFile {
   public:
    Writable(FaultyFileSystem* fs, std::unique_ptr<WritableFile> file)
        : ForwardingWritableFile(std::move(file)), fs_(*fs) {}
    absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) override {
      if (const absl::Status met = fs_.Meet("WriteAt", path()); !met.ok()) {
        ForwardingWritableFile::WriteAt(offset, data.first(data.size() / 2)).IgnoreError();
        return met;
      }
      return ForwardingWritableFile::WriteAt(offset, data);
    }
    absl::Status Reserve(std::uint64_t bytes) override {
      Q4_RETURN_IF_ERROR(fs_.Meet("Reserve", path()));
      return ForwardingWritableFile::Reserve(bytes);
    }
    absl::Status Truncate(std::uint64_t bytes) override {
      Q4_RETURN_IF_ERROR(fs_.Meet("Truncate", path()));
      return ForwardingWritableFile::Truncate(bytes);
    }
    absl::Status Sync() override {
      Q4_RETURN_IF_ERROR(fs_.Meet("Sync", path()));
      return ForwardingWritableFile::Sync();
    }
    absl::Status Close() override {
      Q4_RETURN_IF_ERROR(fs_.Meet("Close", path()));
      return ForwardingWritableFile::Close();
    }

   private:
    FaultyFileSystem& fs_;
  };

  absl::Status Meet(std::string_view call, const std::string& path) {
    if (calls_++ != fail_at_) return absl::OkStatus();
    const std::lock_guard lock(mutex_);
    failed_call_ = std::string(call) + " " + BaseNameOf(path);
    return Fail(kCannotWrite, path, {}, "No space left on device");
  }

  const std::int64_t fail_at_;
  const Removals removals_;
  std::atomic<std::int64_t> calls_{0};
  mutable std::mutex mutex_;
  std::string failed_call_;
};

}  // namespace q4::test
