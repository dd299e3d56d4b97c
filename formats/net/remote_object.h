// One file on a server: what is known of it, and its bytes by ranges. All bytes that it gives out are of one state of
// the file, the one that it had when it was opened: each request names the ETag, and each answer is held against it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/net/transfer.h"

namespace q4 {

// The bytes that opening a file brings along: with them most small files need no second request.
inline constexpr std::uint64_t kHeadBytes = 64u << 10;

// What a listing says of a file beforehand. Held against what the server sends.
struct ListedFile {
  bool known = false;
  std::uint64_t size = 0;
  std::string tag;  // FileVersion::tag; "sha256:<hex>" where the listing has a digest (content_tag.h)
};

class RemoteObject {
 public:
  // `transfer` must outlive it.
  RemoteObject(const NetTransfer& transfer, NetTarget target, ListedFile listed)
      : transfer_(transfer), target_(std::move(target)), listed_(std::move(listed)) {}

  // The first request. False where there is no such file, by 404 or 410; nothing else may be called then.
  // kAccessDenied, kDeniedOrAbsent, kPageForFile: what is denied, or hidden behind a login, may well be there.
  absl::StatusOr<bool> Open();
  // Fills `out`. REQUIRES: the range lies in the file, and `out` is not empty. kFileChanged, kServerFailed and others.
  // Ends with an error soon after `*stop` has become true; nullptr for never.
  absl::Status Read(std::uint64_t offset, std::span<std::uint8_t> out, const std::atomic<bool>* stop = nullptr) const;
  // As the server has it now.
  absl::StatusOr<FileVersion> VersionNow() const;

  // The shortest time from a request to its answer.
  double wait_seconds() const { return wait_seconds_.load(); }
  const FileVersion& version() const { return version_; }
  std::uint64_t size() const { return version_.size; }
  const std::string& name() const { return target_.name; }
  // Whether it takes several requests, and neither an ETag, a time of modification nor a digest tells that all of them
  // were answered from one state.
  bool MayChangeUnnoticed() const;
  // The first bytes, or all of a small file; of larger ones until DropHead().
  std::shared_ptr<const std::vector<std::uint8_t>> head() const;
  // Makes `bytes` the head: all of the file.
  void KeepWhole(std::shared_ptr<const std::vector<std::uint8_t>> bytes) const;
  void DropHead() const;

 private:
  // Where the bytes come from: what the redirects led to, kept as long as it works.
  struct Place {
    std::string url;
    bool redirected = false;
    std::string etag;           // as sent; "" for none
    std::string last_modified;  // "" for none

    bool strong() const { return !etag.empty() && !etag.starts_with("W/"); }
  };
  struct Opened {
    bool exists = false;
    Place place;
    FileVersion version;
    std::vector<std::uint8_t> head;
  };
  absl::StatusOr<Opened> Ask(bool wants_body) const;
  absl::Status Changed(std::uint64_t offset, const std::string& why) const;
  absl::Status CheckRange(const NetReply& reply, std::uint64_t offset, std::uint64_t bytes, const Place& place) const;
  // Asks again for the way: `failed` does not work any more.
  absl::Status Renew(const Place& failed) const;

  const NetTransfer& transfer_;
  const NetTarget target_;
  const ListedFile listed_;
  FileVersion version_;
  mutable std::atomic<double> wait_seconds_{1.0};
  mutable std::mutex mutex_;
  mutable Place place_;                                            // by the mutex
  mutable std::shared_ptr<const std::vector<std::uint8_t>> head_;  // by the mutex
};

}  // namespace q4
