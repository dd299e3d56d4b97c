#include "formats/net/read_ahead.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

#include "formats/base/status.h"
#include "formats/net/remote_object.h"

namespace q4 {
namespace {

// A range of so much costs a server and the way to it little beside its bytes.
constexpr std::uint64_t kMostPieceBytes = 8u << 20;
constexpr std::uint64_t kLeastPieceBytes = 256u << 10;
constexpr unsigned kMostConnections = 16;
// What one thread fetches itself at a time, while others fetch what follows.
constexpr std::uint64_t kDirectBytes = 8u << 20;
// Places at which a file is read at the same time: by threads, and by recipes of several tensors.
constexpr std::size_t kMostStreams = 8;

}  // namespace

FetchPool::FetchPool(std::uint64_t bytes)
    : bytes_(bytes),
      piece_bytes_(std::clamp(bytes / 8, kLeastPieceBytes, kMostPieceBytes)),
      most_threads_(static_cast<unsigned>(std::clamp<std::uint64_t>(bytes / piece_bytes_, 1, kMostConnections))) {}

FetchPool::~FetchPool() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void FetchPool::GiveBack(std::unique_ptr<std::uint8_t[]> data, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_ -= bytes;
  spare_bytes_ += bytes;
  spare_.emplace_back(bytes, std::move(data));
}

std::unique_ptr<FetchPool::Memory> FetchPool::Take(std::uint64_t bytes, const ReadAhead* asking) {
  std::unique_ptr<std::uint8_t[]> data;
  {
    const std::lock_guard lock(mutex_);
    if (used_ + bytes <= bytes_) {
      used_ += bytes;
      const auto same = std::find_if(spare_.rbegin(), spare_.rend(), [&](const auto& s) { return s.first == bytes; });
      if (same != spare_.rend()) {
        data = std::move(same->second);
        spare_.erase(std::next(same).base());
        spare_bytes_ -= bytes;
      }
      // The oldest go first: their size is no longer asked for.
      while (!spare_.empty() && used_ + spare_bytes_ > bytes_) {
        spare_bytes_ -= spare_.front().first;
        spare_.erase(spare_.begin());
      }
      if (data == nullptr) data = std::make_unique_for_overwrite<std::uint8_t[]>(bytes);
      return std::make_unique<Memory>(this, std::move(data), bytes);
    }
  }
  const std::lock_guard lock(files_mutex_);
  for (ReadAhead* const file : files_) {
    if (file != asking) file->LetGo(clock_.load());
  }
  return nullptr;
}

bool FetchPool::Run(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    // A thread that the system refuses is one connection less; without any, readers fetch for themselves.
    if (idle_ <= jobs_.size() && threads_.size() < most_threads_) {
      try {
        threads_.emplace_back([this] { Loop(); });
      } catch (const std::system_error&) {
      }
    }
    if (threads_.empty()) return false;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

void FetchPool::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return ended_ || !jobs_.empty(); });
    --idle_;
    if (ended_) return;
    {
      const std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }
    lock.lock();
  }
}

void FetchPool::Add(ReadAhead* file) {
  const std::lock_guard lock(files_mutex_);
  files_.push_back(file);
}

void FetchPool::Remove(ReadAhead* file) {
  const std::lock_guard lock(files_mutex_);
  std::erase(files_, file);
}

ReadAhead::ReadAhead(const RemoteObject& object, FetchPool& pool) : object_(object), pool_(pool) { pool_.Add(this); }

ReadAhead::~ReadAhead() {
  pool_.Remove(this);
  ending_.store(true);
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [this] { return coming_ == 0; });
}

void ReadAhead::LetGo(std::uint64_t now) {
  constexpr std::uint64_t kLong = 64;
  // Who holds the lock is reading here, or lets go of another file's.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || now - last_read_ < kLong) return;
  std::erase_if(pieces_, [](const std::shared_ptr<Piece>& piece) { return piece->state == Piece::State::kThere; });
}

// How far to read ahead: what a fast link brings between a question and its answer. More would only push what is worked
// on out of the processor's cache.
std::uint64_t ReadAhead::Window() const {
  constexpr double kBytesPerSecond = 4e9;
  constexpr std::uint64_t kLeastWindow = 16u << 20;
  const double bytes = std::min(object_.wait_seconds(), 1.0) * kBytesPerSecond;
  return std::min(pool_.bytes(), std::max(kLeastWindow, static_cast<std::uint64_t>(bytes)));
}

// Finds the stream that this read goes on with, and fetches what it will want: twice what it has read so far, so that a
// header of 100 KB does not bring 64 MiB along, up to all that the pool has.
void ReadAhead::Note(std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t slack = pool_.bytes();
  last_read_ = pool_.Tick();
  DropStale();
  Stream* stream = nullptr;
  for (Stream& other : streams_) {
    // Threads that share a stream may overtake each other by what they hold, and small gaps are passed over.
    const bool near = offset <= other.next + std::min(slack, other.run) && other.next <= offset + bytes + slack / 2;
    if (near && (stream == nullptr || other.used > stream->used)) stream = &other;
  }
  if (stream == nullptr) {
    if (streams_.size() == kMostStreams) {
      streams_.erase(std::min_element(streams_.begin(), streams_.end(),
                                      [](const Stream& a, const Stream& b) { return a.used < b.used; }));
    }
    stream = &streams_.emplace_back();
    stream->ahead = stream->next = offset;
  }
  stream->used = ++clock_;
  stream->run += bytes;
  stream->next = std::max(stream->next, offset + bytes);
  stream->ahead = std::max(stream->ahead, stream->next);
  // One read alone says nothing of the next one, unless it is a large one.
  if (stream->run == bytes && bytes < kLeastPieceBytes) return;
  const std::uint64_t wanted =
      std::min(object_.size(), stream->next + std::min(Window(), std::max(2 * stream->run, kLeastPieceBytes)));
  const std::uint64_t most = std::clamp(Window() / 8, kLeastPieceBytes, pool_.piece_bytes());
  const std::uint64_t piece = std::clamp(stream->run, kLeastPieceBytes, most);
  while (stream->ahead < wanted) {
    // No small piece, but at the end of the file.
    const std::uint64_t end = std::min(object_.size(), stream->ahead + piece);
    if (end > wanted && wanted < object_.size()) return;
    const std::size_t before = pieces_.size();
    Fetch(stream->ahead, end);
    if (pieces_.size() == before) return;  // no memory
    stream->ahead = end;
  }
}

// Under the lock.
void ReadAhead::Fetch(std::uint64_t begin, std::uint64_t end) {
  const auto at =
      std::lower_bound(pieces_.begin(), pieces_.end(), begin,
                       [](const std::shared_ptr<Piece>& piece, std::uint64_t b) { return piece->begin < b; });
  if (at != pieces_.begin() && (*std::prev(at))->end() > begin) begin = (*std::prev(at))->end();
  if (at != pieces_.end()) end = std::min(end, (*at)->begin);
  if (begin >= end) return;
  std::unique_ptr<FetchPool::Memory> memory = pool_.Take(end - begin, this);
  if (memory == nullptr) return;
  auto piece = std::make_shared<Piece>();
  piece->begin = begin;
  piece->bytes = piece->left = end - begin;
  piece->memory = std::move(memory);
  const bool runs = pool_.Run([this, piece] {
    // An error is met again by who needs these bytes, and reported there.
    const bool there = !ending_.load() && object_.Read(piece->begin, piece->memory->data(), &ending_).ok();
    const std::lock_guard lock(mutex_);
    piece->state = there ? Piece::State::kThere : Piece::State::kFailed;
    if (!there) std::erase(pieces_, piece);
    --coming_;
    arrived_.notify_all();
  });
  if (!runs) return;
  ++coming_;
  pieces_.insert(std::lower_bound(pieces_.begin(), pieces_.end(), begin,
                                  [](const std::shared_ptr<Piece>& p, std::uint64_t b) { return p->begin < b; }),
                 piece);
}

void ReadAhead::DropStale() {
  std::erase_if(pieces_, [&](const std::shared_ptr<Piece>& piece) {
    if (piece->state != Piece::State::kThere) return false;
    return std::none_of(streams_.begin(), streams_.end(), [&](const Stream& stream) {
      return piece->end() + pool_.bytes() / 4 > stream.next && piece->begin < stream.ahead + pool_.bytes();
    });
  });
}

// The piece that holds `offset`, or nullptr and in `gap` the distance to the next one.
std::shared_ptr<ReadAhead::Piece> ReadAhead::Find(std::uint64_t offset, std::uint64_t* gap) {
  const auto behind =
      std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                       [](std::uint64_t o, const std::shared_ptr<Piece>& piece) { return o < piece->begin; });
  if (behind != pieces_.begin() && (*std::prev(behind))->end() > offset) return *std::prev(behind);
  *gap = behind == pieces_.end() ? ~std::uint64_t{0} : (*behind)->begin - offset;
  return nullptr;
}

absl::Status ReadAhead::Read(std::uint64_t offset, std::span<std::uint8_t> out) {
  std::unique_lock lock(mutex_);
  Note(offset, out.size());
  while (!out.empty()) {
    std::uint64_t gap = 0;
    const std::shared_ptr<Piece> piece = Find(offset, &gap);
    if (piece == nullptr) {
      const auto bytes =
          static_cast<std::size_t>(std::min({static_cast<std::uint64_t>(out.size()), gap, kDirectBytes}));
      lock.unlock();
      Q4_RETURN_IF_ERROR(object_.Read(offset, out.first(bytes)));
      lock.lock();
      offset += bytes;
      out = out.subspan(bytes);
      continue;
    }
    arrived_.wait(lock, [&] { return piece->state != Piece::State::kComing; });
    if (piece->state == Piece::State::kFailed) continue;  // it is no longer in the list
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), piece->end() - offset));
    // It is read once. Who reads a byte of it again finds it, or fetches it.
    piece->left -= std::min<std::uint64_t>(piece->left, bytes);
    if (piece->left == 0) std::erase(pieces_, piece);
    lock.unlock();
    std::memcpy(out.data(), piece->memory->data().data() + (offset - piece->begin), bytes);
    lock.lock();
    offset += bytes;
    out = out.subspan(bytes);
  }
  return absl::OkStatus();
}

}  // namespace q4
