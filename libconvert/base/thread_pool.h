// Worker threads over one queue that is ordered by the plan: earlier work first, so that memory drains in order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace q4 {

class ThreadPool {
 public:
  // Throws std::system_error when the system gives no more threads.
  explicit ThreadPool(unsigned threads);
  // Runs what was submitted, then joins.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs `work` on some thread; smaller `order` first. Work may submit more work. It must not throw.
  void Submit(std::uint64_t order, std::function<void()> work);
  // Returns when the queue is empty and no work runs.
  void Wait();

  static unsigned DefaultThreads();

 private:
  struct Task {
    std::uint64_t order;
    std::uint64_t sequence;  // first come, first served among equals
    std::function<void()> work;
    bool operator<(const Task& other) const {
      return order != other.order ? order > other.order : sequence > other.sequence;
    }
  };
  void Loop();
  void Stop();

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::priority_queue<Task> tasks_;
  std::uint64_t submitted_ = 0;
  std::uint64_t running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace q4
