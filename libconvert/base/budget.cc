// One condition variable tells of released bytes. It is notified outside the lock, so that a woken thread does not find
// the lock taken.
// The pool's buffers are powers of two, because requests vary a little from slab to slab and a buffer should fit the
// next one too. What is idle does not count as held; Trim keeps both together near the limit.
#include "libconvert/base/budget.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>
#include <utility>

namespace q4 {
namespace {
constexpr std::uint64_t kPage = 4096;

// Idle buffers beyond the budget. Without them nearly every slab would get fresh pages, because the memory of a buffer
// that comes back is taken for codes before the next slab is read.
constexpr std::uint64_t kIdleBytes = std::uint64_t{32} << 20;
}  // namespace

void MemoryBudget::Acquire(std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  // An empty budget grants anything: nobody could ever release enough otherwise.
  released_.wait(lock, [&] { return held_ + bytes <= limit_ || held_ == 0; });
  held_ += bytes;
  peak_ = std::max(peak_, held_);
}

// Everybody is woken: the one who fits now need not be the one who came first.
void MemoryBudget::Release(std::uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    held_ -= bytes;
  }
  released_.notify_all();
}

std::uint64_t MemoryBudget::held() const {
  std::lock_guard lock(mutex_);
  return held_;
}

std::uint64_t MemoryBudget::peak() const {
  std::lock_guard lock(mutex_);
  return peak_;
}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    Reset();
    // The other one holds nothing afterwards and releases nothing.
    budget_ = std::exchange(other.budget_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Reservation::Reset() {
  if (budget_ != nullptr) budget_->Release(bytes_);
  budget_ = nullptr;
  bytes_ = 0;
}

std::uint8_t* BufferMemory::Allocate(std::uint64_t bytes) {
  // Capacities are multiples of a page, which aligned_alloc wants.
  return static_cast<std::uint8_t*>(std::aligned_alloc(kPage, bytes));
}

void BufferMemory::Free(std::uint8_t* data) { std::free(data); }

// On whichever thread drops the last reference.
Buffer::~Buffer() { pool_->Return(data_, capacity_); }

BufferPool::~BufferPool() {
  for (const auto& [capacity, data] : idle_) memory_->Free(data);
}

std::uint64_t BufferPool::CapacityFor(std::uint64_t size) { return std::bit_ceil(std::max(size, kPage)); }

// Bytes first, then a buffer: an idle one of the same capacity or a new one.
std::shared_ptr<Buffer> BufferPool::Get(std::uint64_t size) {
  const std::uint64_t capacity = CapacityFor(size);
  // Before the pool's lock: this may wait for a buffer that another thread returns through that lock.
  budget_->Acquire(capacity);
  std::uint8_t* data = nullptr;
  {
    std::lock_guard lock(mutex_);
    const auto kept = idle_.find(capacity);
    if (kept != idle_.end()) {
      data = kept->second;
      idle_bytes_ -= capacity;
      idle_.erase(kept);
    }
  }
  Trim();
  // Idle buffers of other sizes were given back first, so the process does not exceed its limit for a moment.
  if (data == nullptr) data = memory_->Allocate(capacity);
  if (data == nullptr) {
    budget_->Release(capacity);
    throw std::bad_alloc();
  }
  return std::make_shared<Buffer>(this, data, size, capacity);
}

void BufferPool::Trim() {
  std::lock_guard lock(mutex_);
  // The smallest go first: they are the cheapest to get again.
  while (!idle_.empty() && budget_->held() + idle_bytes_ > budget_->limit() + kIdleBytes) {
    idle_bytes_ -= idle_.begin()->first;
    memory_->Free(idle_.begin()->second);
    idle_.erase(idle_.begin());
  }
}

void BufferPool::Return(std::uint8_t* data, std::uint64_t capacity) {
  {
    std::lock_guard lock(mutex_);
    // Idle before it is released: whoever then acquires these bytes finds the buffer.
    idle_.emplace(capacity, data);
    idle_bytes_ += capacity;
  }
  budget_->Release(capacity);
}

// The last one given comes back first: its pages are the likeliest to be in a cache.
std::vector<std::uint8_t> SpareVectors::Take() {
  std::lock_guard lock(mutex_);
  if (spares_.empty()) return {};
  std::vector<std::uint8_t> spare = std::move(spares_.back());
  spares_.pop_back();
  return spare;
}

void SpareVectors::Give(std::vector<std::uint8_t> spare) {
  std::lock_guard lock(mutex_);
  if (spares_.size() < most_) spares_.push_back(std::move(spare));
}

}  // namespace q4
