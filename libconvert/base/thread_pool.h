// Worker threads over one queue that is ordered by the plan: earlier work first, so that memory drains in order. What
// is nearly finished is finished before new work begins, and the buffers of a pipeline come back early.
//
// For a loop whose results are used in order, parallel.h is simpler.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace q4 {

// Thread-safe, except for construction and destruction. Workers run with the canonical float environment (numerics
// Q10.2).
class ThreadPool {
 public:
  // Throws std::system_error when the system gives no more threads.
  explicit ThreadPool(unsigned threads);
  // Runs what was submitted, then joins.
  ~ThreadPool();
  // Its threads hold its address.
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs `work` on some thread; smaller `order` first. Work may submit more work. It must not throw.
  void Submit(std::uint64_t order, std::function<void()> work);
  // Returns when the queue is empty and no work runs. Work that running work submits counts too. Not to be called from
  // work.
  void Wait();

 private:
  // std::priority_queue has the largest element on top, so operator< is the reverse: less urgent is less.
  struct Task {
    // As given to Submit: the place in the plan.
    std::uint64_t order;
    std::uint64_t sequence;  // first come, first served among equals
    std::function<void()> work;
    bool operator<(const Task& other) const {
      return order != other.order ? order > other.order : sequence > other.sequence;
    }
  };
  // What each thread runs until the pool stops and the queue is empty.
  void Loop();
  // Lets the threads finish the queue and joins them.
  void Stop();

  // Guards everything below but threads_.
  std::mutex mutex_;
  // Work or the end has come; no work is left.
  std::condition_variable wake_, idle_;
  // Waiting, not those that run.
  std::priority_queue<Task> tasks_;
  std::uint64_t submitted_ = 0;  // tasks so far
  std::uint64_t running_ = 0;    // tasks that a thread is at
  // Set once, by Stop.
  bool stopping_ = false;
  // Fixed after construction.
  std::vector<std::thread> threads_;
};

}  // namespace q4
