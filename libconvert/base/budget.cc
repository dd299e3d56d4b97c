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
  released_.wait(lock, [&] { return held_ + bytes <= limit_ || held_ == 0; });
  held_ += bytes;
  peak_ = std::max(peak_, held_);
}

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
  return static_cast<std::uint8_t*>(std::aligned_alloc(kPage, bytes));
}

void BufferMemory::Free(std::uint8_t* data) { std::free(data); }

Buffer::~Buffer() { pool_->Return(data_, capacity_); }

BufferPool::~BufferPool() {
  for (const auto& [capacity, data] : idle_) memory_->Free(data);
}

std::uint64_t BufferPool::CapacityFor(std::uint64_t size) { return std::bit_ceil(std::max(size, kPage)); }

std::shared_ptr<Buffer> BufferPool::Get(std::uint64_t size) {
  const std::uint64_t capacity = CapacityFor(size);
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
  if (data == nullptr) data = memory_->Allocate(capacity);
  if (data == nullptr) {
    budget_->Release(capacity);
    throw std::bad_alloc();
  }
  return std::make_shared<Buffer>(this, data, size, capacity);
}

void BufferPool::Trim() {
  std::lock_guard lock(mutex_);
  while (!idle_.empty() && budget_->held() + idle_bytes_ > budget_->limit() + kIdleBytes) {
    idle_bytes_ -= idle_.begin()->first;
    memory_->Free(idle_.begin()->second);
    idle_.erase(idle_.begin());
  }
}

void BufferPool::Return(std::uint8_t* data, std::uint64_t capacity) {
  {
    std::lock_guard lock(mutex_);
    idle_.emplace(capacity, data);
    idle_bytes_ += capacity;
  }
  budget_->Release(capacity);
}

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
