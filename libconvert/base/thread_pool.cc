// One mutex, one queue, two conditions: `wake_` tells workers of work or of the end, `idle_` tells Wait that there is
// none left. Tasks are large (a slab, a chunk), so a single lock will do.
#include "libconvert/base/thread_pool.h"

#include <algorithm>
#include <utility>

#include "kernels/kernels.h"

namespace q4 {

ThreadPool::ThreadPool(unsigned threads) {
  threads = std::max(threads, 1u);
  threads_.reserve(threads);
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
  } catch (...) {
    // The system has no more threads. No destructor will run for this object, and those that started use it.
    Stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  // A thread leaves only when the queue is empty, so everything that was submitted has run.
  for (std::thread& thread : threads_) thread.join();
}

// One task, one thread to wake; whoever is busy finds it in the queue later.
void ThreadPool::Submit(std::uint64_t order, std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    // The sequence number keeps tasks of equal order in the order of submission.
    tasks_.push({order, submitted_++, std::move(work)});
  }
  wake_.notify_one();
}

void ThreadPool::Wait() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return tasks_.empty() && running_ == 0; });
}

void ThreadPool::Loop() {
  // A host program may have changed its threads' float environment; ours is fixed (numerics Q10.2).
  const ScopedFloatEnvironment environment;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    // Woken to stop, and nothing left to do.
    if (tasks_.empty()) return;
    // priority_queue::top() is const; the element is removed right away, so moving from it is safe.
    std::function<void()> work = std::move(const_cast<Task&>(tasks_.top()).work);
    tasks_.pop();
    ++running_;
    lock.unlock();
    work();
    work = nullptr;  // what the task held (buffers) is released before it counts as finished
    lock.lock();
    if (--running_ == 0 && tasks_.empty()) idle_.notify_all();
  }
}

}  // namespace q4
