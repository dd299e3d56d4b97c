// Threads that digest, and the pieces that wait for them.
//
// HashFile() goes through a file's tensors in payload order. What lies before a tensor's extent it reads itself
// (ReadUntil()); the extent it takes from what Add() has brought (TakeUntil()). Files are taken in order by as many
// threads as may work side by side: while one catches up with a file that the conversion has left behind, another is at
// the file that is read now. They share nothing but the map of pieces. RunningDigest::bytes() is the one position of a
// file's digest: both steps begin there, so bytes that are behind it are never digested again, whether two tensors
// share them or an earlier run has digested them.
//
// Memory: pieces are counted by the budget of the conversion, for which the thread that admits work may be waiting. So
// pieces must be let go of to the end, after an error too. A piece waits for earlier bytes of its own file only, which
// were admitted before it, and a file waits for a thread only while all threads have earlier files: so what waits here
// always moves on without more memory.
#include "libconvert/source/file_hasher.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <iterator>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include "formats/base/content_issues.h"
#include "formats/base/content_tag.h"
#include "formats/base/digest.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/source/checksum_check.h"
#include "libconvert/source/source_issues.h"

namespace q4 {
namespace {

// Bytes read at a time. A digest that reads holds two buffers of this size.
constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;

// More digests at a time would be faster than any storage, and their buffers count as fixed overhead.
constexpr std::size_t kMostSideBySide = 8;

// From this many threads on, several files are digested ahead of the conversion where the page cache has them: one
// digest is slower than so many threads. It costs a copy of the bytes, which fewer threads have no time for.
constexpr unsigned kManyThreads = 8;

// What is fetched ahead at once, and how long its first piece may take.
constexpr std::uint64_t kFetchBytes = std::uint64_t{32} << 20;
constexpr int kFetchMilliseconds = 50;

// A quarter of the memory that this process may use, its cgroup's page cache included: the conversion takes half of it
// at most by default, and what was fetched must still be there when it is read.
std::uint64_t AheadLimit() { return MemoryOf(ThisMachine()).free / 4; }

// How many files are digested at the same time. At most half of `threads`, since the conversion computes beside them.
// XXH3 runs at memory speed and needs no more than one thread.
unsigned FilesSideBySide(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads) {
  if (kind != SourceDigest::kSha256) return 1;
  return static_cast<unsigned>(
      std::clamp<std::size_t>(std::min<std::size_t>(threads / 2, checkpoint.files().size()), 1, kMostSideBySide));
}

// `done` with an entry for every file.
std::vector<SourceDigestState> ByFile(const std::vector<SourceDigestState>& done, std::size_t files) {
  std::vector<SourceDigestState> states(files);
  for (const SourceDigestState& state : done) states[state.file] = state;
  return states;
}

}  // namespace

// One file's digest, of either kind: of the two streams exactly one is there. Counts its own bytes, for Xxh3Stream has
// no count.
class FileHasher::RunningDigest {
 public:
  RunningDigest(SourceDigest kind, const Sha256State& done, const CheckpointFile& file) : check_(file) {
    if (kind == SourceDigest::kXxh3) {
      xxh3_.emplace(0);
    } else if (done.bytes == 0) {
      sha256_.emplace();
    } else {
      sha256_.emplace(done);
      bytes_ = done.bytes;
    }
  }
  // Once, before any Update().
  absl::Status Start() { return check_.SkipTo(bytes_); }
  // kZipCrc where the file's own checksums say that it is damaged.
  absl::Status status() const { return check_.status(); }
  void Update(std::span<const std::uint8_t> bytes) {
    bytes_ += bytes.size();
    check_.Update(bytes);
    if (sha256_) {
      sha256_->Update(bytes);
    } else {
      xxh3_->Update(bytes);
    }
  }
  std::string Finish() { return sha256_ ? HexOf(sha256_->Finish()) : fmt::format("{:016x}", xxh3_->Digest()); }
  std::uint64_t bytes() const { return bytes_; }
  const std::optional<Sha256Stream>& sha256() const { return sha256_; }

 private:
  std::optional<Sha256Stream> sha256_;
  std::optional<Xxh3Stream> xxh3_;
  std::uint64_t bytes_ = 0;
  ChecksumCheck check_;
};

FileHasher::FileHasher(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads,
                       const std::vector<SourceDigestState>& done, std::size_t first_tensor, std::size_t end_tensor,
                       std::vector<bool> wanted)
    : checkpoint_(checkpoint),
      kind_(kind),
      first_tensor_(first_tensor),
      end_tensor_(end_tensor),
      wanted_(std::move(wanted)),
      done_(ByFile(done, checkpoint.files().size())),
      side_by_side_(FilesSideBySide(checkpoint, kind, threads)),
      ahead_limit_(threads >= kManyThreads && side_by_side_ > 1 ? AheadLimit() : 0),
      taken_(checkpoint.files().size()),
      brought_(checkpoint.files().size()),
      states_(kind == SourceDigest::kSha256 ? done : std::vector<SourceDigestState>{}) {
  // Add() drops what the journal's digest covers. The thread begins last, when all members are there.
  for (const SourceDigestState& state : states_) taken_[state.file] = state.sha256.bytes;
  thread_ = std::thread([this] { Loop(); });
}

FileHasher::~FileHasher() {
  // First the flag, then Finish(): the thread must not read a whole file before it can be joined. Nobody is left to
  // hear of the error.
  given_up_.store(true);
  if (thread_.joinable()) (void)Finish();
}

void FileHasher::Add(std::uint32_t file, std::uint64_t offset, std::shared_ptr<const Buffer> bytes) {
  {
    std::lock_guard lock(mutex_);
    brought_[file] = true;
    // The digest was ahead: an earlier run's of what it had written, or this one's by the page cache.
    if (offset + bytes->size() <= taken_[file]) {
      ahead_bytes_ -= std::min(ahead_bytes_, bytes->size());
      return;
    }
    pieces_.emplace(std::pair(file, offset), std::move(bytes));
  }
  // After the lock, so that a thread does not wake only to wait for it. All of them, for the piece is for one file.
  wake_.notify_all();
}

std::vector<SourceDigestState> FileHasher::States() {
  std::lock_guard lock(mutex_);
  return states_;
}

absl::StatusOr<std::vector<std::string>> FileHasher::Finish() {
  {
    std::lock_guard lock(mutex_);
    finished_ = true;
  }
  wake_.notify_all();
  thread_.join();
  // The join orders what the thread wrote before what is read here: no lock.
  Q4_RETURN_IF_ERROR(status_);
  return digests_;
}

void FileHasher::Loop() {
  // Exceptions end here, since one that leaves a thread ends the process. std::system_error is a thread that could not
  // be started, by std::async or ParallelInOrder().
  try {
    status_ = HashFiles();
  } catch (const std::bad_alloc&) {
    status_ = OutOfMemory("source digest");
  } catch (const std::system_error&) {
    status_ = OutOfMemory("a thread for the source digest");
  }
  // After an error pieces still arrive; they hold memory that others wait for.
  std::unique_lock lock(mutex_);
  for (;;) {
    pieces_.clear();
    if (finished_) return;
    wake_.wait(lock, [this] { return finished_ || !pieces_.empty(); });
  }
}

// XXH3 begins anew in a resumed run: its stream ignores `done`.
FileHasher::RunningDigest FileHasher::Begin(std::uint32_t file) const {
  return {kind_, done_[file].sha256, checkpoint_.files()[file]};
}

void FileHasher::Note(std::uint32_t file, const RunningDigest& digest) {
  // Only SHA-256 can be saved.
  if (!digest.sha256()) return;
  // The copy of the state is made before the lock, for Add() and the journal wait for that.
  const SourceDigestState state{file, digest.sha256()->Save()};
  std::lock_guard lock(mutex_);
  // states_ has an entry for each file that was begun, in that order.
  const auto same = [&](const SourceDigestState& other) { return other.file == file; };
  const auto found = std::find_if(states_.begin(), states_.end(), same);
  found == states_.end() ? states_.push_back(state) : void(*found = state);
}

// Reads and digests the file up to `end`. While one piece is digested the next is read, by a thread of its own:
// together they would take a fifth longer.
absl::Status FileHasher::ReadUntil(std::uint32_t number, std::uint64_t end, RunningDigest* digest) {
  const RandomAccessFile& file = *checkpoint_.files()[number].file;
  // `piece` is being digested while `next_piece` is being read. The reading thread touches nothing else, and it has
  // ended whenever they are swapped.
  std::vector<std::uint8_t> piece, next_piece;
  const auto read = [&](std::uint64_t at) {
    next_piece.resize(std::min(kReadBytes, end - at));
    return file.ReadAt(at, next_piece);
  };
  if (digest->bytes() >= end) return absl::OkStatus();
  {
    std::lock_guard lock(mutex_);
    // Set before reading, so that Add() drops at once what is read here anyway.
    taken_[number] = end;
  }
  absl::Status status = read(digest->bytes());
  while (status.ok() && !given_up_.load()) {
    piece.swap(next_piece);
    const std::uint64_t at = digest->bytes() + piece.size();
    std::future<absl::Status> reading;
    // Each piece is read once the one before it has arrived, so at most one read is on its way.
    if (at < end) reading = std::async(std::launch::async, read, at);
    digest->Update(piece);
    Note(number, *digest);
    if (at == end) break;
    // After an error the digest is incomplete; the caller passes the status on and makes no text of it.
    status = reading.get();
  }
  return status;
}

// What was brought of `file` from byte `at` on; end() when it is not there yet. Looks back from the first piece that
// begins behind `at`: the one before it holds `at`, or ends before it and is dropped, for all its bytes were brought by
// another tensor too. A piece may hide a longer one that begins earlier, so the search goes on until one is found.
FileHasher::Pieces::iterator FileHasher::PieceWith(std::uint32_t file, std::uint64_t at) {
  auto piece = pieces_.upper_bound({file, at});
  while (piece != pieces_.begin() && std::prev(piece)->first.first == file) {
    --piece;
    if (piece->first.second + piece->second->size() > at) return piece;
    piece = pieces_.erase(piece);
  }
  return pieces_.end();
}

// Digests what is brought, up to `end` or beyond: the last piece may belong to a later tensor that overlaps this one.
absl::Status FileHasher::TakeUntil(std::uint32_t number, std::uint64_t end, RunningDigest* digest) {
  // Not at all where little memory is free: a refused read makes the system fetch a little, which would be lost.
  bool may_be_cached = ahead_limit_ >= 4 * kFetchBytes;
  // Kept from piece to piece: new memory of this size comes from the system, page by page, for every piece.
  std::vector<std::uint8_t> cached;
  while (digest->bytes() < end) {
    std::shared_ptr<const Buffer> piece;
    std::uint64_t skip = 0;  // of its first bytes, which are digested
    {
      std::unique_lock lock(mutex_);
      auto found = PieceWith(number, digest->bytes());
      if (found == pieces_.end() && may_be_cached && !finished_ && first_failed_ >= number) {
        // What was brought goes first. Where the cache ends, the conversion brings the rest.
        lock.unlock();
        may_be_cached = TakeCached(number, end, digest, &cached) ||
                        (Fetch(number, end, *digest) && TakeCached(number, end, digest, &cached));
        continue;
      }
      // Finish() wakes it too; then what is missing will never come.
      wake_.wait(lock, [&] {
        found = PieceWith(number, digest->bytes());
        return finished_ || first_failed_ < number || found != pieces_.end();
      });
      // A status, not an endless wait: a conversion that loses a slab must end.
      if (found == pieces_.end()) {
        const RandomAccessFile& file = *checkpoint_.files()[number].file;
        return Fail(kSourceUnread, file.path(), {},
                    GotExpected(std::to_string(digest->bytes()), std::to_string(file.size()) + " bytes"));
      }
      // The piece leaves the map before it is digested, without the lock; the buffer is given back at the end of this
      // turn of the loop.
      const std::uint64_t begin = found->first.second;
      piece = std::move(found->second);
      skip = digest->bytes() - begin;
      taken_[number] = begin + piece->size();
      pieces_.erase(found);
    }
    digest->Update({piece->data() + skip, piece->size() - skip});
    Note(number, *digest);
  }
  return absl::OkStatus();
}

bool FileHasher::TakeCached(std::uint32_t number, std::uint64_t end, RunningDigest* digest,
                            std::vector<std::uint8_t>* bytes) {
  bytes->resize(std::min(kReadBytes, end - digest->bytes()));
  if (!checkpoint_.files()[number].file->ReadCached(digest->bytes(), *bytes)) return false;
  digest->Update(*bytes);
  Note(number, *digest);
  // While this was digested the next was fetched; where it is in the cache, asking costs nothing.
  if (digest->bytes() % kFetchBytes < bytes->size() && MayFetch(number)) {
    checkpoint_.files()[number].file->Prefetch(digest->bytes(), kFetchBytes + kFetchBytes / 2);
  }
  // Only now may Add() drop them. What was brought meanwhile is dropped by looking for what follows it.
  std::lock_guard lock(mutex_);
  taken_[number] = std::max(taken_[number], digest->bytes());
  ahead_bytes_ += bytes->size();
  PieceWith(number, digest->bytes());
  return true;
}

bool FileHasher::MayFetch(std::uint32_t number) {
  std::lock_guard lock(mutex_);
  return !brought_[number] && !finished_ && ahead_bytes_ + kFetchBytes < ahead_limit_;
}

bool FileHasher::Fetch(std::uint32_t number, std::uint64_t end, const RunningDigest& digest) {
  const RandomAccessFile& file = *checkpoint_.files()[number].file;
  if (!MayFetch(number)) return false;
  file.Prefetch(digest.bytes(), kFetchBytes);
  // It comes in order, so that the last byte of the next piece tells of all of them.
  const std::uint64_t last = std::min(digest.bytes() + kReadBytes, end) - 1;
  std::uint8_t byte = 0;
  for (int i = 0; i < kFetchMilliseconds && MayFetch(number); ++i) {
    if (file.ReadCached(last, {&byte, 1})) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

absl::StatusOr<std::string> FileHasher::HashFile(std::uint32_t number) {
  if (!wanted_.empty() && !wanted_[number]) return std::string();
  RunningDigest digest = Begin(number);
  Q4_RETURN_IF_ERROR(digest.Start());
  // Tensors before the first one were converted by an earlier run and are not brought: what its digest did not cover of
  // them is read. So is what the recipe of a tensor decodes, for Add() brings stored bytes only.
  const std::vector<SourceTensor>& tensors = checkpoint_.tensors();
  const auto in_file = [&](const SourceTensor& tensor, std::uint32_t file) { return tensor.place().file < file; };
  const auto begin = tensors.begin() + static_cast<std::ptrdiff_t>(std::min(first_tensor_, tensors.size()));
  const auto end = tensors.begin() + static_cast<std::ptrdiff_t>(std::min(end_tensor_, tensors.size()));
  for (auto tensor = std::lower_bound(begin, end, number, in_file); tensor < end && tensor->place().file == number;
       ++tensor) {
    if (!tensor->is_stored()) continue;
    const SourceExtent& brought = tensor->place();
    Q4_RETURN_IF_ERROR(ReadUntil(number, brought.offset, &digest));
    Q4_RETURN_IF_ERROR(TakeUntil(number, brought.end(), &digest));
  }
  // What lies behind the last tensor, or all of a file without tensors.
  Q4_RETURN_IF_ERROR(ReadUntil(number, checkpoint_.files()[number].file->size(), &digest));
  Q4_RETURN_IF_ERROR(digest.status());
  std::string text = digest.Finish();
  const RandomAccessFile& file = *checkpoint_.files()[number].file;
  const std::string published = PublishedSha256(file.version());
  if (kind_ == SourceDigest::kSha256 && !published.empty() && text != published && !given_up_.load()) {
    return Fail(kNotAsPublished, file.path(), {}, GotExpected(text, published));
  }
  return text;
}

// What is thrown for lack of memory ends the file like any error: other threads must hear of it.
absl::StatusOr<std::string> FileHasher::HashFileOrFail(std::uint32_t number) {
  try {
    return HashFile(number);
  } catch (const std::bad_alloc&) {
    return OutOfMemory("source digest");
  } catch (const std::system_error&) {
    return OutOfMemory("a thread for the source digest");
  }
}

absl::Status FileHasher::OutOfMemory(std::string_view what) const {
  return Fail(kOutOfMemory, checkpoint_.path(), what);
}

absl::Status FileHasher::HashFiles() {
  const auto hash = [&](std::uint64_t i) -> absl::StatusOr<std::string> {
    const auto number = static_cast<std::uint32_t>(i);
    absl::StatusOr<std::string> digest = HashFileOrFail(number);
    if (digest.ok()) return digest;
    {
      // Files before it are gone on with, as theirs would be the first error; those behind it end at their next wait.
      std::lock_guard lock(mutex_);
      first_failed_ = std::min(first_failed_, number);
    }
    wake_.notify_all();
    return digest;
  };
  // In the order of the files, as the digests are listed. When the hasher is given up, ReadUntil() returns OK early;
  // the incomplete digest that is made then is asked for by nobody.
  return ParallelInOrder(checkpoint_.files().size(), side_by_side_, hash,
                         [&](std::uint64_t, absl::StatusOr<std::string> digest) -> absl::Status {
                           Q4_RETURN_IF_ERROR(digest.status());
                           digests_.push_back(*std::move(digest));
                           return absl::OkStatus();
                         });
}

}  // namespace q4
