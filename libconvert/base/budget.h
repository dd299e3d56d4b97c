// One memory ledger for all stages of a pipeline: what is held never exceeds the limit.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace q4 {

// Counts bytes held. Only one thread acquires (the admitting one), in plan order, and everything a unit of work will
// ever need is acquired before the unit starts; so whoever holds memory can finish without more of it, and waiting
// always ends.
class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t limit) : limit_(limit) {}

  // Waits until `bytes` fit under the limit. REQUIRES: bytes <= limit.
  void Acquire(std::uint64_t bytes);
  void Release(std::uint64_t bytes);
  std::uint64_t held() const;
  std::uint64_t peak() const;
  std::uint64_t limit() const { return limit_; }

 private:
  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable released_;
  std::uint64_t held_ = 0, peak_ = 0;
};

// Bytes held from a budget, released on destruction. Movable.
class Reservation {
 public:
  Reservation() = default;
  Reservation(MemoryBudget* budget, std::uint64_t bytes) : budget_(budget), bytes_(bytes) { budget->Acquire(bytes); }
  Reservation(Reservation&& other) noexcept { *this = std::move(other); }
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { Reset(); }
  void Reset();

 private:
  MemoryBudget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Where a pool's buffers come from: the process's memory, or in a derived class some other. Thread-safe.
class BufferMemory {
 public:
  virtual ~BufferMemory() = default;
  // Page-aligned; nullptr when there is none.
  virtual std::uint8_t* Allocate(std::uint64_t bytes);
  virtual void Free(std::uint8_t* data);
};

class BufferPool;

// Uninitialized, page-aligned bytes. Shared by the stages that read it; the last one returns it to its pool.
class Buffer {
 public:
  Buffer(BufferPool* pool, std::uint8_t* data, std::uint64_t size, std::uint64_t capacity)
      : pool_(pool), data_(data), size_(size), capacity_(capacity) {}
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::uint8_t* data() { return data_; }
  const std::uint8_t* data() const { return data_; }
  std::uint64_t size() const { return size_; }

 private:
  BufferPool* pool_;
  std::uint8_t* data_;
  std::uint64_t size_, capacity_;
};

// Recycles large buffers: fresh pages cost as much as reading them. Kept buffers and held bytes together stay under the
// budget's limit and 32 MiB more. Must outlive its buffers.
class BufferPool {
 public:
  // Does not own them.
  BufferPool(MemoryBudget* budget, BufferMemory* memory) : budget_(budget), memory_(memory) {}
  ~BufferPool();
  // Acquires CapacityFor(size) bytes from the budget; waits for them.
  std::shared_ptr<Buffer> Get(std::uint64_t size);
  // Gives idle buffers back to the system until they fit together with what is held. Call after acquiring memory past
  // the pool.
  void Trim();
  // Power of two, at least 4096.
  static std::uint64_t CapacityFor(std::uint64_t size);

 private:
  friend class Buffer;
  void Return(std::uint8_t* data, std::uint64_t capacity);
  MemoryBudget* const budget_;
  BufferMemory* const memory_;
  std::mutex mutex_;
  std::multimap<std::uint64_t, std::uint8_t*> idle_;  // by capacity
  std::uint64_t idle_bytes_ = 0;
};

// A few vectors of bytes to be used again. Thread-safe.
class SpareVectors {
 public:
  explicit SpareVectors(std::size_t most) : most_(most) {}
  // An empty vector if there is no spare one; otherwise one of any size and contents.
  std::vector<std::uint8_t> Take();
  void Give(std::vector<std::uint8_t> spare);

 private:
  const std::size_t most_;
  std::mutex mutex_;
  std::vector<std::vector<std::uint8_t>> spares_;
};

}  // namespace q4
