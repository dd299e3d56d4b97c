// One memory ledger for all stages of a pipeline: what is held never exceeds the limit of --max-memory.
//
// MemoryBudget counts bytes and makes its caller wait; Reservation holds some for a scope; BufferPool lends buffers
// whose bytes it takes from the budget, and keeps returned ones for the next request; SpareVectors does the same for a
// few vectors that the budget does not count one by one. All of them are thread-safe, except that a Reservation belongs
// to one thread at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace q4 {

// What is kept of every tensor of a model grows with their number, not with their size. As far as this it is a part of
// the 64 MiB beside --max-memory (some 8,000 tensors); what exceeds it is counted in the bound.
inline constexpr std::uint64_t kIndexAllowance = std::uint64_t{16} << 20;
inline constexpr std::uint64_t IndexBeyondAllowance(std::uint64_t bytes) {
  return bytes <= kIndexAllowance ? 0 : bytes - kIndexAllowance;
}

// Counts bytes held. Only one thread acquires (the admitting one), in plan order, and everything a unit of work will
// ever need is acquired before the unit starts; so whoever holds memory can finish without more of it, and waiting
// always ends.
class MemoryBudget {
 public:
  // `limit` in bytes; fixed for the budget's life.
  explicit MemoryBudget(std::uint64_t limit) : limit_(limit) {}

  // Waits until `bytes` fit under the limit. REQUIRES: bytes <= limit. More is granted once nothing else is held, so
  // that one oversized unit cannot wait for ever.
  void Acquire(std::uint64_t bytes);
  // Gives bytes back, from any thread. REQUIRES: they were acquired.
  void Release(std::uint64_t bytes);
  // Bytes held now, and the most that were held at any time.
  std::uint64_t held() const;
  std::uint64_t peak() const;
  // The limit it was made with.
  std::uint64_t limit() const { return limit_; }

 private:
  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  // Told of every Release.
  std::condition_variable released_;
  // Guarded by mutex_.
  std::uint64_t held_ = 0, peak_ = 0;
};

// Bytes held from a budget, released on destruction. Movable.
class Reservation {
 public:
  // Holds nothing, as does one that was moved from.
  Reservation() = default;
  // Waits as MemoryBudget::Acquire does. The budget is not owned and must outlive this.
  Reservation(MemoryBudget* budget, std::uint64_t bytes) : budget_(budget), bytes_(bytes) { budget->Acquire(bytes); }
  // A move takes the bytes over; what the target held before is released.
  Reservation(Reservation&& other) noexcept { *this = std::move(other); }
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { Reset(); }
  // Releases what is held now.
  void Reset();

 private:
  MemoryBudget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Where a pool's buffers come from: the process's memory, or in a derived class some other. Thread-safe.
class BufferMemory {
 public:
  // Derived: page-locked memory, which copies to a GPU want (engine/cuda_slab_engine.cc).
  virtual ~BufferMemory() = default;
  // Page-aligned; nullptr when there is none.
  virtual std::uint8_t* Allocate(std::uint64_t bytes);
  // REQUIRES: `data` came from Allocate of the same object and is not used any more.
  virtual void Free(std::uint8_t* data);
};

class BufferPool;

// Uninitialized, page-aligned bytes. Shared by the stages that read it; the last one returns it to its pool.
class Buffer {
 public:
  // For BufferPool, which makes them. `capacity` bytes are there and counted, `size` of them are in use.
  Buffer(BufferPool* pool, std::uint8_t* data, std::uint64_t size, std::uint64_t capacity)
      : pool_(pool), data_(data), size_(size), capacity_(capacity) {}
  ~Buffer();
  // One owner of the memory: share a Buffer through its shared_ptr.
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  // Valid as long as the Buffer. Contents are whatever was there before.
  std::uint8_t* data() { return data_; }
  const std::uint8_t* data() const { return data_; }
  std::uint64_t size() const { return size_; }

 private:
  BufferPool* pool_;
  std::uint8_t* data_;             // of capacity_ bytes
  std::uint64_t size_, capacity_;  // bytes asked for; bytes there
};

// Recycles large buffers: fresh pages cost as much as reading them. Kept buffers and held bytes together stay under the
// budget's limit and 32 MiB more. Must outlive its buffers. A buffer of a pool is counted from Get until its last owner
// drops it.
class BufferPool {
 public:
  // Does not own them.
  BufferPool(MemoryBudget* budget, BufferMemory* memory) : budget_(budget), memory_(memory) {}
  ~BufferPool();
  // Acquires CapacityFor(size) bytes from the budget; waits for them. Throws std::bad_alloc when the system has no more
  // memory, and holds nothing then.
  std::shared_ptr<Buffer> Get(std::uint64_t size);
  // Gives idle buffers back to the system until they fit together with what is held. Call after acquiring memory past
  // the pool.
  void Trim();
  // Power of two, at least 4096.
  static std::uint64_t CapacityFor(std::uint64_t size);

 private:
  // For Return.
  friend class Buffer;
  // Called by ~Buffer: the memory becomes idle and its bytes are released.
  void Return(std::uint8_t* data, std::uint64_t capacity);
  MemoryBudget* const budget_;  // not owned, as memory_
  BufferMemory* const memory_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::multimap<std::uint64_t, std::uint8_t*> idle_;  // by capacity
  std::uint64_t idle_bytes_ = 0;                      // their capacities added up
};

// A few vectors of bytes to be used again. Thread-safe. A pool for vectors that are filled anew each time, such as the
// packed codes of slabs: it saves their allocation and the first touch of their pages.
class SpareVectors {
 public:
  // Keeps at most `most` of them; more are freed when they are given.
  explicit SpareVectors(std::size_t most) : most_(most) {}
  // An empty vector if there is no spare one; otherwise one of any size and contents.
  std::vector<std::uint8_t> Take();
  // A vector that is done with, whatever it holds.
  void Give(std::vector<std::uint8_t> spare);

 private:
  const std::size_t most_;
  std::mutex mutex_;
  std::vector<std::vector<std::uint8_t>> spares_;
};

}  // namespace q4
