// The system's files on a machine that stops: at the k-th call that changes the disk, everything after it is without
// effect.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/base_issues.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/temp_dir.h"

namespace q4::test {

// What a stopped machine finds when it starts again.
enum class AfterCrash {
  kAll,       // everything that was written: the process alone was killed
  kSynced,    // what was synced, and names whose directory was: the power was cut
  kSomething  // of the rest anything, torn writes too
};

// Nothing is really synced, so it is fast. Thread-safe.
class CrashFileSystem final : public ForwardingFileSystem {
 public:
  static constexpr std::int64_t kAtRename = -1;
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  explicit CrashFileSystem(std::int64_t crash_at) : crash_at_(crash_at) {}

  bool crashed() const { return crashed_.load(); }
  std::int64_t calls() const { return calls_.load(); }

  // Call once everything that uses this object is gone.
  void Restart(AfterCrash mode, std::uint32_t seed) {
    if (mode == AfterCrash::kAll) return;
    std::mt19937 random(seed);
    const auto lost = [&] { return mode == AfterCrash::kSynced || random() % 2 == 0; };
    for (const auto& [path, file] : files_) {
      if (!Content(path)) continue;
      if (lost()) {
        std::string content = file->synced.value_or("");
        if (mode == AfterCrash::kSomething) {  // its first bytes, or its last, had arrived
          const std::string now = *Content(path);
          content.resize(std::max(content.size(), random() % (now.size() + 1)));
          for (std::size_t i = content.size() / 2; i < std::min(content.size(), now.size()); ++i) content[i] = now[i];
        }
        WriteBytes(path, content);
      }
    }
    // A directory that was removed after a file had left it is back with the file.
    const auto put = [](const std::string& path, const std::string& content) {
      std::filesystem::create_directories(std::filesystem::path(path).parent_path());
      WriteBytes(path, content);
    };
    for (auto change = names_.rbegin(); change != names_.rend(); ++change) {
      if (!lost()) continue;
      change->before ? put(change->path, *change->before) : void(std::filesystem::remove(change->path));
      if (change->moved_from) put(*change->moved_from, change->moved);
    }
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    return Open(path, &FileSystem::CreateExclusive);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override {
    return Open(path, &FileSystem::OpenLocked);
  }
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override {
    const std::lock_guard lock(mutex_);
    if (!Goes(/*rename=*/!from.ends_with(".q4-probe"))) return PowerIsOut(to);  // of an output, not of what tries it
    NameChange change{to, Content(to), from, Content(from).value_or(""), DirectoryOf(to)};
    Q4_RETURN_IF_ERROR(ForwardingFileSystem::Rename(from, to, replace));
    names_.push_back(std::move(change));
    // A file that was there before has nothing to lose but its name.
    if (auto moved = files_.extract(from)) {
      files_[to] = std::move(moved.mapped());
    } else {
      files_.erase(to);
    }
    return absl::OkStatus();
  }
  absl::Status SyncDirectory(const std::string& directory) override {
    const std::lock_guard lock(mutex_);
    if (!Goes()) return PowerIsOut(directory);
    std::erase_if(names_, [&](const NameChange& change) { return change.durable_with == directory; });
    return absl::OkStatus();
  }
  // A directory that is gone for good has no names any more.
  absl::Status RemoveDirectory(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (!Goes()) return PowerIsOut(path);
    Q4_RETURN_IF_ERROR(ForwardingFileSystem::RemoveDirectory(path));
    for (NameChange& change : names_) {
      if (change.durable_with == path) change.durable_with = DirectoryOf(path);
    }
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    const std::lock_guard lock(mutex_);
    if (!Goes()) return PowerIsOut(path);
    if (Content(path)) names_.push_back({path, Content(path), std::nullopt, {}, DirectoryOf(path)});
    files_.erase(path);
    return ForwardingFileSystem::Remove(path);
  }

 private:
  struct File {
    std::optional<std::string> synced;
  };
  // A name that appeared, moved or went, and how it was before.
  struct NameChange {
    std::string path;
    std::optional<std::string> before;  // its content
    std::optional<std::string> moved_from;
    std::string moved;
    std::string durable_with = DirectoryOf(path);  // the directory whose sync makes it so
  };

  class Writable final : public ForwardingWritableFile {
   public:
    Writable(CrashFileSystem* fs, std::unique_ptr<WritableFile> base, std::shared_ptr<File> file)
        : ForwardingWritableFile(std::move(base)), fs_(*fs), file_(std::move(file)), opened_as_(path()) {}
    absl::Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> data) override {
      const std::lock_guard lock(fs_.mutex_);
      const bool was_on = !fs_.crashed();
      if (fs_.Goes()) return ForwardingWritableFile::WriteAt(offset, data);
      if (was_on) ForwardingWritableFile::WriteAt(offset, data.first(data.size() / 2)).IgnoreError();
      return PowerIsOut(path());
    }
    absl::Status Reserve(std::uint64_t) override { return absl::OkStatus(); }
    absl::Status Truncate(std::uint64_t bytes) override {
      const std::lock_guard lock(fs_.mutex_);
      return fs_.Goes() ? ForwardingWritableFile::Truncate(bytes) : PowerIsOut(path());
    }
    void StartWriteback(std::uint64_t, std::uint64_t) override {}
    absl::Status Sync() override {
      const std::lock_guard lock(fs_.mutex_);
      if (!fs_.Goes()) return PowerIsOut(path());
      file_->synced = Content(opened_as_);
      return absl::OkStatus();
    }

   private:
    CrashFileSystem& fs_;
    std::shared_ptr<File> file_;
    const std::string opened_as_;
  };

  template <typename OpenCall>
  absl::StatusOr<std::unique_ptr<WritableFile>> Open(const std::string& path, OpenCall open) {
    const std::lock_guard lock(mutex_);
    if (!Goes()) return PowerIsOut(path);
    std::optional<std::string> before = Content(path);
    Q4_ASSIGN_OR_RETURN(auto file, (PosixFileSystem().*open)(path));
    std::shared_ptr<File>& state = files_[path];
    if (state == nullptr) {
      if (!before) names_.push_back({path, std::nullopt, std::nullopt, {}, DirectoryOf(path)});
      state = std::make_shared<File>(File{std::move(before)});
    }
    return std::make_unique<Writable>(this, std::move(file), state);
  }

  // Counts a call; false if the machine stopped at it or before.
  bool Goes(bool rename = false) {
    const std::int64_t call = calls_++;
    if (crash_at_ == kAtRename ? rename : call >= crash_at_) crashed_ = true;
    return !crashed_;
  }
  static absl::Status PowerIsOut(const std::string& path) {
    return Fail(kCannotWrite, path, {}, "the machine stopped");
  }

  static std::optional<std::string> Content(const std::string& path) {
    if (!std::filesystem::exists(path)) return std::nullopt;
    return ReadBytes(path);
  }

  const std::int64_t crash_at_;
  std::atomic<std::int64_t> calls_{0};
  std::atomic<bool> crashed_{false};
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<File>> files_;
  std::vector<NameChange> names_;  // not yet synced, oldest first
};

}  // namespace q4::test
