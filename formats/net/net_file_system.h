// A file system in which URLs are paths: models on servers beside the files of this machine. What is no URL goes to the
// file system below, untouched. URLs are read only, and nothing of them comes to the local disk.
//
// Paths: "https://host/folder/model.safetensors" (names decoded, no query), "hf://ORG/NAME@REVISION/config.json". Files
// of a server have identities that no local file has, and versions by their ETag, or by their content where the listing
// says what it is (content_tag.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/net/net_settings.h"

namespace q4 {

class NetFileSystem final : public FileSystem {
 public:
  // `below` must outlive it. The network is set up when the first URL is met, by the environment but for these two:
  // what is held in memory at most, and what ends all waiting when it becomes true (nullptr for nothing), which must
  // outlive it too.
  NetFileSystem(FileSystem& below, std::uint64_t memory, const std::atomic<bool>* cancel);
  // The environment is not asked.
  NetFileSystem(FileSystem& below, NetSettings settings);
  ~NetFileSystem() override;

  // The path that stands for what a user gave: secrets (a user and password, a query) are taken out of a URL and kept
  // for its server, pages of the hub become hf://. What is no URL comes back as it is. kBadUrl, kInsecureUrl,
  // kNoNetwork.
  absl::StatusOr<std::string> Adopt(const std::string& given);
  // Bytes of memory that are held beside what callers hold; 0 as long as no URL was adopted.
  std::uint64_t memory() const;
  // What was learned of the servers, for people: one line each.
  std::vector<std::string> Notes() const;

  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override;
  absl::StatusOr<PathInfo> Stat(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) override;
  absl::StatusOr<std::string> RealPath(const std::string& directory) override;
  absl::StatusOr<std::string> ReadLink(const std::string& path) override;
  // Of URLs all of these fail with kOutputIsUrl.
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenLocked(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to, bool replace) override;
  absl::Status Exchange(const std::string& a, const std::string& b) override;
  absl::Status CopyMode(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& directory) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::Status CreateDirectory(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<HeldDirectory>> Hold(const std::string& path) override;
  absl::Status CheckOurs(const std::string& path, bool shared) override;

 private:
  class Network;  // what exists once a URL was met
  absl::StatusOr<Network*> Net();

  FileSystem& below_;
  const bool by_environment_;
  NetSettings settings_;  // complete when there is a network
  mutable std::mutex mutex_;
  std::unique_ptr<Network> network_;
};

}  // namespace q4
