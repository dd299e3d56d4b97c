#include "libconvert/source_hasher.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "formats/base/digest.h"
#include "libconvert/convert_issues.h"

namespace q4 {
namespace {

// One file's digest, of either kind.
class FileDigest {
 public:
  explicit FileDigest(SourceDigest kind) {
    if (kind == SourceDigest::kSha256) {
      sha256_.emplace();
    } else {
      xxh3_.emplace(0);
    }
  }
  void Update(std::span<const std::uint8_t> bytes) {
    bytes_ += bytes.size();
    if (sha256_) {
      sha256_->Update(bytes);
    } else {
      xxh3_->Update(bytes);
    }
  }
  std::string Finish() { return sha256_ ? HexOf(sha256_->Finish()) : fmt::format("{:016x}", xxh3_->Digest()); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::optional<Sha256Stream> sha256_;
  std::optional<Xxh3Stream> xxh3_;
  std::uint64_t bytes_ = 0;
};

// All before the payload.
absl::Status AddHeader(const CheckpointFile& file, FileDigest* digest) {
  std::vector<std::uint8_t> piece(std::uint64_t{1} << 20);
  for (std::uint64_t at = 0; at < file.payload_offset; at += piece.size()) {
    const std::span<std::uint8_t> bytes(piece.data(), std::min<std::uint64_t>(piece.size(), file.payload_offset - at));
    Q4_RETURN_IF_ERROR(file.file->ReadAt(at, bytes));
    digest->Update(bytes);
  }
  return absl::OkStatus();
}

}  // namespace

SourceHasher::SourceHasher(const Checkpoint& checkpoint, SourceDigest kind)
    : checkpoint_(checkpoint), kind_(kind), thread_([this] { Loop(); }) {}

SourceHasher::~SourceHasher() {
  if (thread_.joinable()) (void)Finish();
}

void SourceHasher::Add(std::uint32_t file, std::shared_ptr<const Buffer> bytes) {
  {
    std::lock_guard lock(mutex_);
    pieces_.push_back({file, std::move(bytes)});
  }
  wake_.notify_one();
}

absl::StatusOr<std::vector<std::string>> SourceHasher::Finish() {
  {
    std::lock_guard lock(mutex_);
    finished_ = true;
  }
  wake_.notify_one();
  thread_.join();
  Q4_RETURN_IF_ERROR(status_);
  return digests_;
}

void SourceHasher::Loop() {
  try {
    status_ = HashAll();
  } catch (const std::bad_alloc&) {
    status_ = Fail(kOutOfMemory, checkpoint_.path(), "source digest");
  }
  // After an error pieces still arrive; they hold memory that others wait for.
  std::unique_lock lock(mutex_);
  for (;;) {
    pieces_.clear();
    if (finished_) return;
    wake_.wait(lock, [this] { return finished_ || !pieces_.empty(); });
  }
}

absl::Status SourceHasher::HashAll() {
  for (std::uint32_t i = 0; i < checkpoint_.files().size(); ++i) {
    const CheckpointFile& file = checkpoint_.files()[i];
    FileDigest digest(kind_);
    Q4_RETURN_IF_ERROR(AddHeader(file, &digest));
    while (digest.bytes() < file.file->size()) {
      Piece piece;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return finished_ || !pieces_.empty(); });
        if (pieces_.empty() || pieces_.front().file != i) {
          return Fail(kSourceUnread, file.file->path(), {},
                      GotExpected(std::to_string(digest.bytes()), std::to_string(file.file->size()) + " bytes"));
        }
        piece = std::move(pieces_.front());
        pieces_.pop_front();
      }
      digest.Update({piece.bytes->data(), piece.bytes->size()});
    }
    digests_.push_back(digest.Finish());
  }
  return absl::OkStatus();
}

}  // namespace q4
