// Two rendezvous, with a mutex and condition variables each. Whoever brings something wakes the waiting thread after
// the lock is released, so that it does not run into the lock at once.
//
// One thread at most waits for chunks, two (the admitting and the committing one) for a settlement.
#include "libconvert/convert/chunk_mailbox.h"

#include <utility>

namespace q4 {

void ChunkMailbox::Put(std::uint64_t number, FinishedChunk chunk) {
  {
    std::lock_guard lock(mutex_);
    // Else it is destroyed here, with its memory: nobody will take it.
    if (!discarding_) chunks_.emplace(number, std::move(chunk));
  }
  arrived_.notify_all();
}

void ChunkMailbox::Fail(std::uint64_t number, absl::Status status) {
  {
    std::lock_guard lock(mutex_);
    errors_.emplace(number, std::move(status));
  }
  arrived_.notify_all();
}

void ChunkMailbox::FailAll(absl::Status status) {
  {
    std::lock_guard lock(mutex_);
    // The first reason: later ones are mostly its consequences.
    if (failed_.ok()) failed_ = std::move(status);
  }
  arrived_.notify_all();
}

void ChunkMailbox::Discard() {
  std::map<std::uint64_t, FinishedChunk>
      dropped;  // destroyed after the lock is released: a budget has a lock of its own
  std::lock_guard lock(mutex_);
  discarding_ = true;
  dropped.swap(chunks_);
}

absl::StatusOr<FinishedChunk> ChunkMailbox::Take(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  // In this order: what is known of the number itself, then what is known of all.
  for (;;) {
    if (const auto error = errors_.find(number); error != errors_.end()) return error->second;
    if (const auto ready = chunks_.find(number); ready != chunks_.end()) {
      FinishedChunk chunk = std::move(ready->second);
      chunks_.erase(ready);
      return chunk;
    }
    if (!failed_.ok()) return failed_;
    arrived_.wait(lock);
  }
}

void Settlement::Settle(absl::StatusOr<Q4Tensor> tensor) {
  {
    std::lock_guard lock(mutex_);
    if (settled_) return;
    tensor_ = std::move(tensor);
    settled_ = true;
  }
  settled_condition_.notify_all();
}

const absl::StatusOr<Q4Tensor>& Settlement::Wait() {
  std::unique_lock lock(mutex_);
  settled_condition_.wait(lock, [this] { return settled_; });
  // A reference without the lock: once settled, it never changes.
  return tensor_;
}

}  // namespace q4
