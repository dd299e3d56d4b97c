// A loop on several threads whose results are used in index order.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace q4 {

// `threads`, or the number of cores if that is 0.
inline unsigned ThreadsOrAllCores(unsigned threads) {
  return threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
}

// Calls work(i) for i in [0, count) on `threads` threads, and commit(i, result) once for each i, one at a time and in
// order, whatever the order in which they end. So what commit() builds does not depend on the number of threads.
//
// Bounded: work(i) does not begin before commit(i - 4 * threads) has ended. The first error that commit() returns ends
// the loop and is returned; what work() throws is thrown here.
template <typename Work, typename Commit>
absl::Status ParallelInOrder(std::uint64_t count, unsigned threads, const Work& work, const Commit& commit) {
  using Result = decltype(work(std::uint64_t{0}));
  std::mutex mutex;
  std::condition_variable progressed;
  std::map<std::uint64_t, Result> finished;  // but not yet committed
  std::uint64_t next_start = 0, next_commit = 0;
  absl::Status status;
  std::exception_ptr thrown;
  bool stop = false;
  const std::uint64_t window = std::uint64_t{4} * threads;

  const auto run = [&] {
    std::unique_lock lock(mutex);
    try {
      while (true) {
        progressed.wait(lock, [&] { return stop || next_start == count || next_start < next_commit + window; });
        if (stop || next_start == count) return;
        const std::uint64_t index = next_start++;
        lock.unlock();
        Result result = work(index);
        lock.lock();
        finished.emplace(index, std::move(result));
        while (!stop && !finished.empty() && finished.begin()->first == next_commit) {
          status = commit(next_commit, std::move(finished.begin()->second));
          finished.erase(finished.begin());
          ++next_commit;
          stop = !status.ok();
        }
        progressed.notify_all();
      }
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      thrown = std::current_exception();
      stop = true;
      progressed.notify_all();
    }
  };

  const auto wanted = static_cast<unsigned>(std::min<std::uint64_t>(threads, count));
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < wanted; ++i) others.emplace_back(run);
  run();
  others.clear();  // joins
  if (thrown) std::rethrow_exception(thrown);
  return status;
}

}  // namespace q4
