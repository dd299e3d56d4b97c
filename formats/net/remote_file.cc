#include "formats/net/remote_file.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/content_issues.h"
#include "formats/base/content_tag.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

class RemoteFile final : public RandomAccessFile {
 public:
  RemoteFile(std::shared_ptr<const RemoteObject> object, FetchPool& pool, HeadCache& cache)
      : object_(std::move(object)), cache_(cache), ahead_(*object_, pool) {}

  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (!RangeFits(offset, out.size(), size())) {
      return Fail(kFileEndsEarly, path(), AtOffset(offset),
                  GotExpected(std::to_string(size()) + " bytes", "at least " + std::to_string(out.size()) + " more"));
    }
    if (out.empty()) return absl::OkStatus();
    std::shared_ptr<const std::vector<std::uint8_t>> head = object_->head();
    if ((head == nullptr || offset + out.size() > head->size()) && size() <= cache_.small_bytes()) {
      Q4_ASSIGN_OR_RETURN(head, ReadWhole());
    }
    if (head != nullptr && offset < head->size()) {
      const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), head->size() - offset));
      std::memcpy(out.data(), head->data() + offset, bytes);
      offset += bytes;
      out = out.subspan(bytes);
    }
    if (out.empty()) return absl::OkStatus();
    // Who reads on has done with the beginning.
    if (head != nullptr && head->size() < size()) object_->DropHead();
    return ahead_.Read(offset, out);
  }

  // Nothing: what is read from front to back is read ahead by itself, and advice of others would fill the memory for
  // that with bytes of later.
  void Prefetch(std::uint64_t /*offset*/, std::uint64_t /*bytes*/) const override {}
  FileVersion version() const override { return object_->version(); }
  absl::StatusOr<FileVersion> VersionNow() const override { return object_->VersionNow(); }
  std::uint64_t size() const override { return object_->size(); }
  const std::string& path() const override { return object_->name(); }
  FileIdentity identity() const override { return IdentityOfUrl(path()); }

 private:
  // A small file, fetched once for all who read it.
  absl::StatusOr<std::shared_ptr<const std::vector<std::uint8_t>>> ReadWhole() const {
    const std::lock_guard lock(whole_mutex_);
    std::shared_ptr<const std::vector<std::uint8_t>> head = object_->head();
    if (head != nullptr && head->size() == size()) return head;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size()));
    const std::size_t have = head == nullptr ? 0 : head->size();
    if (have > 0) std::memcpy(bytes.data(), head->data(), have);
    Q4_RETURN_IF_ERROR(object_->Read(have, std::span(bytes).subspan(have)));
    const std::string published = PublishedSha256(object_->version());
    if (!published.empty() && HexOf(Sha256Of(bytes)) != published) {
      return Fail(kNotAsPublished, path(), {}, GotExpected(HexOf(Sha256Of(bytes)), published));
    }
    auto whole = std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes));
    object_->KeepWhole(whole);
    cache_.Add(object_, whole->size());
    return whole;
  }

  const std::shared_ptr<const RemoteObject> object_;
  HeadCache& cache_;
  mutable std::mutex whole_mutex_;
  mutable ReadAhead ahead_;
};

}  // namespace

void HeadCache::Add(const std::shared_ptr<const RemoteObject>& object, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto same = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.object == object; });
  if (same != kept_.end()) {
    used_ -= same->bytes;
    kept_.erase(same);
  }
  kept_.push_back({object, bytes});
  used_ += bytes;
  while (used_ > bytes_ && kept_.size() > 1) {
    kept_.front().object->DropHead();
    used_ -= kept_.front().bytes;
    kept_.pop_front();
  }
}

std::unique_ptr<RandomAccessFile> OpenRemoteFile(std::shared_ptr<const RemoteObject> object, FetchPool& pool,
                                                 HeadCache& cache) {
  return std::make_unique<RemoteFile>(std::move(object), pool, cache);
}

FileIdentity IdentityOfUrl(const std::string& path) {
  return {~std::uint64_t{0}, Xxh3({reinterpret_cast<const std::uint8_t*>(path.data()), path.size()}, 0)};
}

}  // namespace q4
