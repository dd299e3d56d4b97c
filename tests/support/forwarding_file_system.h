// A file system and its files that pass every call on: what a test changes or counts it overrides, and nothing else.
// Files do not pass ReadUncached() on: it comes to ReadAt(), as in every file that does not know it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4::test {

class ForwardingFile : public RandomAccessFile {
 public:
  explicit ForwardingFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}

  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    return file_->ReadAt(offset, out);
  }
  void Prefetch(std::uint64_t offset, std::uint64_t bytes) const override { file_->Prefetch(offset, bytes); }
  FileVersion version() const override { return file_->version(); }
  absl::StatusOr<FileVersion> VersionNow() const override { return file_->VersionNow(); }
  std::uint64_t size() const override { return file_->size(); }
  const std::string& path() const override { return file_->path(); }
  FileIdentity identity() const override { return file_->identity(); }

 private:
  std::unique_ptr<RandomAccessFile> file_;
};

class ForwardingWritableFile : public WritableFile {
 public:
  explicit ForwardingWritableFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}

  absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return file_->WriteAt(offset, data);
  }
  absl::Status Reserve(std::uint64_t bytes) override { return file_->Reserve(bytes); }
  absl::Status Truncate(std::uint64_t bytes) override { return file_->Truncate(bytes); }
  void StartWriteback(std::uint64_t offset, std::uint64_t bytes) override { file_->StartWriteback(offset, bytes); }
  absl::Status Sync() override { return file_->Sync(); }
  absl::Status Close() override { return file_->Close(); }
  const std::string& path() const override { return file_->path(); }
  bool locked() const override { return file_->locked(); }

 private:
  std::unique_ptr<WritableFile> file_;
};

// Over the system's files, or over another file system, which must live longer.
class ForwardingFileSystem : public FileSystem {
 public:
  explicit ForwardingFileSystem(FileSystem& base = PosixFileSystem()) : base_(base) {}
  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    return base_.OpenForRead(path, links);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    return base_.CreateExclusive(path);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    return base_.OpenLocked(path);
  }
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    return base_.Rename(from, to, replace);
  }
  absl::Status Exchange(const std::string& a, const std::string& b) override { return base_.Exchange(a, b); }
  absl::Status CopyMode(const std::string& from, const std::string& to) override { return base_.CopyMode(from, to); }
  absl::Status SyncDirectory(const std::string& directory) override { return base_.SyncDirectory(directory); }
  absl::Status Remove(const std::string& path) override { return base_.Remove(path); }
  absl::Status RemoveDirectory(const std::string& path) override { return base_.RemoveDirectory(path); }
  absl::Status CreateDirectory(const std::string& path) override { return base_.CreateDirectory(path); }
  absl::StatusOr<PathInfo> Stat(const std::string& path) override { return base_.Stat(path); }
  absl::StatusOr<std::string> ReadLink(const std::string& path) override { return base_.ReadLink(path); }
  absl::StatusOr<std::string> RealPath(const std::string& directory) override { return base_.RealPath(directory); }
  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) override {
    return base_.ListDirectory(path);
  }

 private:
  FileSystem& base_;
};

}  // namespace q4::test
