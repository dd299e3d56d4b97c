// Bytes that are fetched before somebody asks for them. A conversion reads a file from its beginning to its end, by one
// or a few threads, and a server is far away: what is next is asked for on many connections while the present is worked
// on. What is fetched so lies in pieces, whose memory is bounded for all files together.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace q4 {

class ReadAhead;

// Threads that fetch, and the memory of what they fetched.
class FetchPool {
 public:
  // Pieces of at most piece_bytes(); at most `bytes` of memory.
  explicit FetchPool(std::uint64_t bytes);
  // REQUIRES: every ReadAhead has ended.
  ~FetchPool();
  FetchPool(const FetchPool&) = delete;
  FetchPool& operator=(const FetchPool&) = delete;

  std::uint64_t piece_bytes() const { return piece_bytes_; }
  std::uint64_t bytes() const { return bytes_; }

  // Memory of a piece, given back when the last who has it lets go of it.
  class Memory {
   public:
    Memory(FetchPool* pool, std::unique_ptr<std::uint8_t[]> data, std::uint64_t bytes)
        : pool_(*pool), data_(std::move(data)), bytes_(bytes) {}
    ~Memory() { pool_.GiveBack(std::move(data_), bytes_); }
    std::span<std::uint8_t> data() { return {data_.get(), static_cast<std::size_t>(bytes_)}; }

   private:
    FetchPool& pool_;
    std::unique_ptr<std::uint8_t[]> data_;
    const std::uint64_t bytes_;
  };
  // nullptr where the bound is reached; then files that nobody reads any more give up what they have, for the next
  // time.
  std::unique_ptr<Memory> Take(std::uint64_t bytes, const ReadAhead* asking);
  // Runs `job` soon on another thread; false where there is none.
  bool Run(std::function<void()> job);
  // Counts the reads of all files.
  std::uint64_t Tick() { return clock_.fetch_add(1) + 1; }

  void Add(ReadAhead* file);
  void Remove(ReadAhead* file);

 private:
  void Loop();
  void GiveBack(std::unique_ptr<std::uint8_t[]> data, std::uint64_t bytes);

  const std::uint64_t bytes_, piece_bytes_;
  const unsigned most_threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;  // started when they are needed
  unsigned idle_ = 0;
  std::uint64_t used_ = 0;
  // To be used again: new memory comes from the system page by page.
  std::vector<std::pair<std::uint64_t, std::unique_ptr<std::uint8_t[]>>> spare_;
  std::uint64_t spare_bytes_ = 0;
  bool ended_ = false;
  std::atomic<std::uint64_t> clock_{0};
  std::mutex files_mutex_;
  std::vector<ReadAhead*> files_;
};

class RemoteObject;

// The pieces of one file, and where it is being read.
class ReadAhead {
 public:
  // Both must outlive it.
  ReadAhead(const RemoteObject& object, FetchPool& pool);
  // Ends what is being fetched.
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  // Fills `out`, from pieces and the rest by itself. REQUIRES: inside the file.
  absl::Status Read(std::uint64_t offset, std::span<std::uint8_t> out);
  // Gives up what was fetched if nobody has read here for long (FetchPool::Tick() is `now`), and nobody is at it.
  void LetGo(std::uint64_t now);

 private:
  struct Piece {
    std::uint64_t begin = 0, bytes = 0;
    std::uint64_t left = 0;  // bytes that nobody has read
    std::unique_ptr<FetchPool::Memory> memory;
    enum class State { kComing, kThere, kFailed } state = State::kComing;
    std::uint64_t end() const { return begin + bytes; }
  };
  // A place where the file is read from front to back.
  struct Stream {
    std::uint64_t next = 0;   // behind what was read
    std::uint64_t run = 0;    // bytes that were read in turn
    std::uint64_t ahead = 0;  // fetched or being fetched up to here
    std::uint64_t used = 0;   // when
  };
  void Note(std::uint64_t offset, std::uint64_t bytes);
  void Fetch(std::uint64_t begin, std::uint64_t end);
  std::uint64_t Window() const;
  std::shared_ptr<Piece> Find(std::uint64_t offset, std::uint64_t* gap);
  // Pieces that streams have passed, or left.
  void DropStale();

  const RemoteObject& object_;
  FetchPool& pool_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<std::shared_ptr<Piece>> pieces_;  // by begin, disjoint
  std::vector<Stream> streams_;
  std::uint64_t clock_ = 0;
  unsigned coming_ = 0;
  std::atomic<bool> ending_{false};
  std::uint64_t last_read_ = 0;
};

}  // namespace q4
