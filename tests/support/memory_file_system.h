// Files in memory, with a log of what was read, for tests of readers and writers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "tests/support/bytes.h"
#include "tests/support/steady_file.h"

namespace q4 {

struct LoggedRead {
  std::string path;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// Only what readers and writers of single files need: no directories, no locks. A test may change a file's bytes in
// place.
class MemoryFileSystem final : public FileSystem {
 public:
  test::Bytes& operator[](const std::string& path) {
    auto& file = files_[path];
    if (file == nullptr) file = std::make_shared<test::Bytes>();
    return *file;
  }

  // Every read since the last call.
  std::vector<LoggedRead> TakeReads() {
    const std::lock_guard lock(mutex_);
    return std::exchange(reads_, {});
  }

  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks) override {
    const auto at = files_.find(path);
    if (at == files_.end()) return absl::NotFoundError(path);
    return std::make_unique<Readable>(this, path, at->second);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    if (files_.contains(path)) return absl::AlreadyExistsError(path);
    return OpenLocked(path);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    (*this)[path];
    return std::make_unique<Writable>(path, files_[path]);
  }
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    if (!replace && files_.contains(to)) return absl::AlreadyExistsError(to);
    files_[to] = std::exchange(files_[from], nullptr);
    files_.erase(from);
    return absl::OkStatus();
  }
  absl::Status Exchange(const std::string& a, const std::string& b) override {
    std::swap(files_[a], files_[b]);
    return absl::OkStatus();
  }
  absl::Status CopyMode(const std::string&, const std::string&) override { return absl::OkStatus(); }
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::Status Remove(const std::string& path) override {
    files_.erase(path);
    return absl::OkStatus();
  }
  absl::Status RemoveDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::Status CreateDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<PathInfo> Stat(const std::string& path) override {
    PathInfo info;
    info.exists = info.is_regular = files_.contains(path);
    if (info.exists) info.size = info.version.size = files_[path]->size();
    return info;
  }
  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string&) override {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : files_) names.push_back(name);
    return names;
  }

 private:
  class Readable final : public test::SteadyFile {
   public:
    Readable(MemoryFileSystem* fs, std::string path, std::shared_ptr<test::Bytes> bytes)
        : SteadyFile(std::move(path)), fs_(fs), bytes_(std::move(bytes)), size_(bytes_->size()) {}
    absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
      {
        const std::lock_guard lock(fs_->mutex_);
        fs_->reads_.push_back({path(), offset, out.size()});
      }
      if (offset > bytes_->size() || out.size() > bytes_->size() - offset)
        return absl::OutOfRangeError("file ends early");
      std::copy_n(bytes_->begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
      return absl::OkStatus();
    }
    std::uint64_t size() const override { return size_; }

   private:
    MemoryFileSystem* fs_;
    std::shared_ptr<test::Bytes> bytes_;
    std::uint64_t size_;
  };

  class Writable final : public WritableFile {
   public:
    Writable(std::string path, std::shared_ptr<test::Bytes> bytes) : path_(std::move(path)), bytes_(std::move(bytes)) {}
    absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) override {
      if (bytes_->size() < offset + data.size()) bytes_->resize(offset + data.size());
      std::copy(data.begin(), data.end(), bytes_->begin() + static_cast<std::ptrdiff_t>(offset));
      return absl::OkStatus();
    }
    absl::Status Reserve(std::uint64_t) override { return absl::OkStatus(); }
    absl::Status Truncate(std::uint64_t bytes) override {
      bytes_->resize(bytes);
      return absl::OkStatus();
    }
    void StartWriteback(std::uint64_t, std::uint64_t) override {}
    absl::Status Sync() override { return absl::OkStatus(); }
    absl::Status Close() override { return absl::OkStatus(); }
    const std::string& path() const override { return path_; }

   private:
    std::string path_;
    std::shared_ptr<test::Bytes> bytes_;
  };

  std::map<std::string, std::shared_ptr<test::Bytes>> files_;
  std::mutex mutex_;
  std::vector<LoggedRead> reads_;
};

}  // namespace q4
