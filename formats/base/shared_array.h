// An array that nobody changes any more and that its copies share. A container's chunk records and bytes are held so:
// an index of 256 MiB lies in memory once, used in place, however many objects describe parts of it.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace q4 {

// Copying costs a reference count and never allocates. Thread-safe to read, and copies may be destroyed on any thread.
// A view of it as std::span<const T> is valid as long as any copy lives. Default constructed it is empty.
template <typename T>
class SharedArray {
 public:
  SharedArray() = default;
  // Takes over what was collected elsewhere, without copying the items. Not explicit: a vector is an array too.
  // NOLINTNEXTLINE(google-explicit-constructor)
  SharedArray(std::vector<T> items) {
    const auto owner = std::make_shared<const std::vector<T>>(std::move(items));
    items_ = std::shared_ptr<const T>(owner, owner->data());
    size_ = owner->size();
  }
  // `size` items from `first` on. `first` keeps alive the memory that they lie in: their own, or a larger block that it
  // points into. REQUIRES: nobody writes to that memory any more.
  SharedArray(std::shared_ptr<const T> first, std::size_t size) : items_(std::move(first)), size_(size) {}

  // Items, not bytes.
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T* data() const { return items_.get(); }
  const T* begin() const { return items_.get(); }
  const T* end() const { return items_.get() + size_; }
  // Without check. REQUIRES: i < size(), and not empty() for front() and back().
  const T& operator[](std::size_t i) const { return items_.get()[i]; }
  const T& front() const { return *begin(); }
  const T& back() const { return end()[-1]; }

  // The first item, as an owner of all of the memory: what an alias is made of.
  const std::shared_ptr<const T>& owner() const { return items_; }
  // A copy of the items that may be changed.
  std::vector<T> ToVector() const { return {begin(), end()}; }

 private:
  // Points to the first item, owns the block.
  std::shared_ptr<const T> items_;
  std::size_t size_ = 0;
};

}  // namespace q4
