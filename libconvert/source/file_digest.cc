// One loop over the file for both kinds of digest. Of a file that is worth it, the next piece is read by a thread of
// its own while this one is digested: a digest takes the time of the slower of the two and not of both. Two buffers are
// read into again and again, so a file of any size takes 2 MiB.
#include "libconvert/source/file_digest.h"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/digest.h"

namespace q4 {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;
// Below, a thread costs more than it saves.
constexpr std::uint64_t kAheadFrom = std::uint64_t{32} << 20;

// Hands out the pieces of a file, front to back, and reads ahead of whoever takes them. The size is that at open: a
// file that has become shorter since gives the error of ReadAt().
class PieceReader {
 public:
  explicit PieceReader(const RandomAccessFile& file) : file_(file) {
    if (file.size() < kAheadFrom) return;
    try {
      thread_ = std::thread([this] { ReadAll(); });
    } catch (const std::system_error&) {
      // No more threads here: read as they are asked for.
    }
  }
  ~PieceReader() {
    if (!thread_.joinable()) return;
    {
      const std::scoped_lock lock(mutex_);
      given_up_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  PieceReader(const PieceReader&) = delete;
  PieceReader& operator=(const PieceReader&) = delete;

  // The next piece, which stays as it is until the next call. REQUIRES: there is one.
  absl::StatusOr<std::span<const std::uint8_t>> Next() {
    std::vector<std::uint8_t>& piece = pieces_[taken_ % 2];
    if (!thread_.joinable()) {
      Q4_RETURN_IF_ERROR(Read(taken_++, &piece));
      return std::span<const std::uint8_t>(piece);
    }
    std::unique_lock lock(mutex_);
    // The piece before this one is done with: its buffer may be read into.
    free_ = taken_ + 2;
    changed_.notify_all();
    changed_.wait(lock, [this] { return read_ > taken_ || !status_.ok(); });
    if (read_ <= taken_) return status_;
    ++taken_;
    return std::span<const std::uint8_t>(piece);
  }

 private:
  absl::Status Read(std::uint64_t number, std::vector<std::uint8_t>* piece) const {
    const std::uint64_t offset = number * kPieceBytes;
    piece->resize(std::min(kPieceBytes, file_.size() - offset));
    return file_.ReadAt(offset, *piece);
  }

  void ReadAll() {
    for (std::uint64_t number = 0; number * kPieceBytes < file_.size(); ++number) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return number < free_ || given_up_; });
        if (given_up_) return;
      }
      absl::Status status = Read(number, &pieces_[number % 2]);
      const std::scoped_lock lock(mutex_);
      if (status.ok()) {
        read_ = number + 1;
      } else {
        status_ = std::move(status);
      }
      changed_.notify_all();
      if (!status_.ok()) return;
    }
  }

  const RandomAccessFile& file_;
  std::vector<std::uint8_t> pieces_[2];
  std::uint64_t taken_ = 0;  // pieces, by Next()
  std::mutex mutex_;         // guards what follows
  std::condition_variable changed_;
  // Pieces that are read, and those that may be: the two buffers hold [taken_ - 1, taken_ + 1).
  std::uint64_t read_ = 0, free_ = 2;
  bool given_up_ = false;
  absl::Status status_;
  std::thread thread_;
};

// Calls update(bytes) over the whole file, in order. `cancel` is looked at before each piece.
template <typename Update>
absl::Status ForEachPiece(const RandomAccessFile& file, CancelFlag* cancel, const Issue& interrupted,
                          const Update& update) {
  PieceReader reader(file);
  for (std::uint64_t offset = 0; offset < file.size(); offset += kPieceBytes) {
    if (cancel != nullptr && cancel->load()) return Fail(interrupted, file.path(), {});
    Q4_ASSIGN_OR_RETURN(const std::span<const std::uint8_t> piece, reader.Next());
    update(piece);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FileDigest(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel,
                                       const Issue& interrupted) {
  if (kind == "xxh3") {
    Xxh3Stream digest(0);
    Q4_RETURN_IF_ERROR(ForEachPiece(file, cancel, interrupted, [&](auto bytes) { digest.Update(bytes); }));
    // As xxhsum prints it: the number with all its digits, most significant first.
    return fmt::format("{:016x}", digest.Digest());
  }
  Sha256Stream digest;
  Q4_RETURN_IF_ERROR(ForEachPiece(file, cancel, interrupted, [&](auto bytes) { digest.Update(bytes); }));
  return HexOf(digest.Finish());
}

}  // namespace q4
