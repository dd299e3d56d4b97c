#include "libconvert/source_hasher.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include "formats/base/digest.h"
#include "libconvert/convert_issues.h"
#include "libconvert/parallel.h"

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

constexpr std::uint64_t kReadBytes = std::uint64_t{4} << 20;

// The file's first `end` bytes. While one piece is digested the next is read, by a thread of its own: together they would take a fifth
// longer.
absl::Status AddFileUntil(const RandomAccessFile& file, std::uint64_t end, const std::atomic<bool>& given_up, FileDigest* digest) {
  std::vector<std::uint8_t> piece, next_piece;
  const auto read = [&](std::uint64_t at) {
    next_piece.resize(std::min(kReadBytes, end - at));
    return file.ReadAt(at, next_piece);
  };
  if (end == 0) return absl::OkStatus();
  absl::Status status = read(0);
  for (std::uint64_t at = 0; status.ok() && !given_up.load();) {
    piece.swap(next_piece);
    at += piece.size();
    if (at == end) {
      digest->Update(piece);
      break;
    }
    std::future<absl::Status> reading = std::async(std::launch::async, read, at);
    digest->Update(piece);
    status = reading.get();
  }
  return status;
}

// From this many threads on, one digest is slower than they are together.
constexpr unsigned kManyThreads = 8;

unsigned FilesApart(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads) {
  if (kind != SourceDigest::kSha256 || threads < kManyThreads || checkpoint.files().size() < 2) return 0;
  return static_cast<unsigned>(std::min<std::size_t>(threads / 2, checkpoint.files().size()));
}

}  // namespace

SourceHasher::SourceHasher(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads)
    : checkpoint_(checkpoint), kind_(kind), apart_(FilesApart(checkpoint, kind, threads)), thread_([this] { Loop(); }) {}

SourceHasher::~SourceHasher() {
  given_up_.store(true);
  if (thread_.joinable()) (void)Finish();
}

void SourceHasher::Add(std::uint32_t file, std::uint64_t offset, std::shared_ptr<const Buffer> bytes) {
  if (apart_ != 0) return;
  {
    std::lock_guard lock(mutex_);
    pieces_.emplace(std::pair(file, offset), std::move(bytes));
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
    status_ = apart_ != 0 ? HashFilesApart() : HashWhatIsRead();
  } catch (const std::bad_alloc&) {
    status_ = Fail(kOutOfMemory, checkpoint_.path(), "source digest");
  } catch (const std::system_error&) {
    status_ = Fail(kOutOfMemory, checkpoint_.path(), "a thread for the source digest");
  }
  // After an error pieces still arrive; they hold memory that others wait for.
  std::unique_lock lock(mutex_);
  for (;;) {
    pieces_.clear();
    if (finished_) return;
    wake_.wait(lock, [this] { return finished_ || !pieces_.empty(); });
  }
}

absl::Status SourceHasher::HashWhatIsRead() {
  for (std::uint32_t i = 0; i < checkpoint_.files().size(); ++i) {
    const CheckpointFile& file = checkpoint_.files()[i];
    FileDigest digest(kind_);
    Q4_RETURN_IF_ERROR(AddFileUntil(*file.file, file.payload_offset, given_up_, &digest));
    while (digest.bytes() < file.file->size()) {
      std::shared_ptr<const Buffer> piece;
      {
        std::unique_lock lock(mutex_);
        const auto next = [&] { return pieces_.find({i, digest.bytes()}); };
        wake_.wait(lock, [&] { return finished_ || next() != pieces_.end(); });
        const auto found = next();
        if (found == pieces_.end()) {
          return Fail(kSourceUnread, file.file->path(), {},
                      GotExpected(std::to_string(digest.bytes()), std::to_string(file.file->size()) + " bytes"));
        }
        piece = std::move(found->second);
        pieces_.erase(found);
      }
      digest.Update({piece->data(), piece->size()});
    }
    digests_.push_back(digest.Finish());
  }
  return absl::OkStatus();
}

absl::Status SourceHasher::HashFilesApart() {
  const std::vector<CheckpointFile>& files = checkpoint_.files();
  const auto hash = [&](std::uint64_t i) -> absl::StatusOr<std::string> {
    FileDigest digest(kind_);
    Q4_RETURN_IF_ERROR(AddFileUntil(*files[i].file, files[i].file->size(), given_up_, &digest));
    return digest.Finish();
  };
  return ParallelInOrder(files.size(), apart_, hash, [&](std::uint64_t, absl::StatusOr<std::string> digest) -> absl::Status {
    Q4_RETURN_IF_ERROR(digest.status());
    digests_.push_back(*std::move(digest));
    return absl::OkStatus();
  });
}

}  // namespace q4
