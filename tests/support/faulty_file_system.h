// The system's files, with one call that fails.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/base_issues.h"
#include "formats/base/file.h"
#include "formats/base/status.h"

namespace q4::test {

// Whether removing is among the calls that can fail. Where it is not, what a failure leaves behind can be checked.
enum class Removals { kSucceed, kCanFail };

// Fails the call with this number among all that can fail, reads and writes alike; a failing write has written half.
// Thread-safe.
class FaultyFileSystem final : public FileSystem {
 public:
  explicit FaultyFileSystem(std::int64_t fail_at, Removals removals = Removals::kSucceed)
      : fail_at_(fail_at), removals_(removals) {}

  std::int64_t calls() const { return calls_.load(); }
  bool failed() const { return calls_.load() > fail_at_; }

  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    Q4_RETURN_IF_ERROR(Meet(path));
    Q4_ASSIGN_OR_RETURN(auto file, base_.OpenForRead(path, links));
    return std::make_unique<Readable>(this, std::move(file));
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet(path));
    Q4_ASSIGN_OR_RETURN(auto file, base_.CreateExclusive(path));
    return std::make_unique<Writable>(this, std::move(file));
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet(path));
    Q4_ASSIGN_OR_RETURN(auto file, base_.OpenLocked(path));
    return std::make_unique<Writable>(this, std::move(file));
  }
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    Q4_RETURN_IF_ERROR(Meet(from));
    return base_.Rename(from, to, replace);
  }
  absl::Status SyncDirectory(const std::string& directory) override {
    Q4_RETURN_IF_ERROR(Meet(directory));
    return base_.SyncDirectory(directory);
  }
  absl::Status Remove(const std::string& path) override {
    if (removals_ == Removals::kCanFail) Q4_RETURN_IF_ERROR(Meet(path));
    return base_.Remove(path);
  }
  absl::Status RemoveDirectory(const std::string& path) override {
    if (removals_ == Removals::kCanFail) Q4_RETURN_IF_ERROR(Meet(path));
    return base_.RemoveDirectory(path);
  }
  absl::Status CreateDirectory(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet(path));
    return base_.CreateDirectory(path);
  }
  absl::StatusOr<PathInfo> Stat(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet(path));
    return base_.Stat(path);
  }
  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Meet(path));
    return base_.ListDirectory(path);
  }

 private:
  class Readable final : public RandomAccessFile {
   public:
    Readable(FaultyFileSystem* fs, std::unique_ptr<RandomAccessFile> file) : fs_(*fs), file_(std::move(file)) {}
    absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
      Q4_RETURN_IF_ERROR(fs_.Meet(path()));
      return file_->ReadAt(offset, out);
    }
    void Prefetch(std::uint64_t offset, std::uint64_t bytes) const override { file_->Prefetch(offset, bytes); }
    absl::Status CheckUnchanged() const override {
      Q4_RETURN_IF_ERROR(fs_.Meet(path()));
      return file_->CheckUnchanged();
    }
    std::uint64_t size() const override { return file_->size(); }
    std::int64_t modified_nanoseconds() const override { return file_->modified_nanoseconds(); }
    std::int64_t changed_nanoseconds() const override { return file_->changed_nanoseconds(); }
    const std::string& path() const override { return file_->path(); }
    FileIdentity identity() const override { return file_->identity(); }

   private:
    FaultyFileSystem& fs_;
    std::unique_ptr<RandomAccessFile> file_;
  };

  class Writable final : public WritableFile {
   public:
    Writable(FaultyFileSystem* fs, std::unique_ptr<WritableFile> file) : fs_(*fs), file_(std::move(file)) {}
    absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) override {
      if (const absl::Status met = fs_.Meet(path()); !met.ok()) {
        file_->WriteAt(offset, data.first(data.size() / 2)).IgnoreError();
        return met;
      }
      return file_->WriteAt(offset, data);
    }
    absl::Status Reserve(std::uint64_t bytes) override {
      Q4_RETURN_IF_ERROR(fs_.Meet(path()));
      return file_->Reserve(bytes);
    }
    absl::Status Truncate(std::uint64_t bytes) override {
      Q4_RETURN_IF_ERROR(fs_.Meet(path()));
      return file_->Truncate(bytes);
    }
    void StartWriteback(std::uint64_t offset, std::uint64_t bytes) override { file_->StartWriteback(offset, bytes); }
    absl::Status Sync() override {
      Q4_RETURN_IF_ERROR(fs_.Meet(path()));
      return file_->Sync();
    }
    absl::Status Close() override {
      Q4_RETURN_IF_ERROR(fs_.Meet(path()));
      return file_->Close();
    }
    const std::string& path() const override { return file_->path(); }

   private:
    FaultyFileSystem& fs_;
    std::unique_ptr<WritableFile> file_;
  };

  absl::Status Meet(const std::string& path) {
    if (calls_++ != fail_at_) return absl::OkStatus();
    return Fail(kCannotWrite, path, {}, "No space left on device");
  }

  FileSystem& base_ = PosixFileSystem();
  const std::int64_t fail_at_;
  const Removals removals_;
  std::atomic<std::int64_t> calls_{0};
};

}  // namespace q4::test
