// A loop on several threads whose results are used in index order: for work that is cut into pieces whose results must
// be written, added or reported one after the other. For a graph of work of different kinds see thread_pool.h.
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

// Calls work(i) for i in [0, count) on `threads` threads, and commit(i, result) once for each i, one at a time and in
// order, whatever the order in which they end. So what commit() builds does not depend on the number of threads.
//
// Bounded: work(i) does not begin before commit(i - 4 * threads) has ended. The first error that commit() returns ends
// the loop and is returned; what work() throws is thrown here. work() runs on several threads at once and must be
// thread-safe; commit() runs under the loop's lock, on any of the threads, and should be short. The calling thread is
// one of the `threads`. REQUIRES: threads >= 1. With count 0 nothing is called.
template <typename Work, typename Commit>
absl::Status ParallelInOrder(std::uint64_t count, unsigned threads, const Work& work, const Commit& commit) {
  // A Result needs a move constructor only.
  using Result = decltype(work(std::uint64_t{0}));
  std::mutex mutex;
  // Told of every commit and of the end.
  std::condition_variable progressed;
  // By index, so that the next one to commit is the first.
  std::map<std::uint64_t, Result> finished;  // but not yet committed
  // All of these are guarded by `mutex`.
  std::uint64_t next_start = 0, next_commit = 0;
  absl::Status status;
  // The first one would do; the last one is kept, which is as good a report.
  std::exception_ptr thrown;
  bool stop = false;
  // Results that wait for an earlier one: enough that a slow piece does not stop the others, few enough that memory
  // stays bounded. Four to a thread: pieces of very different sizes still keep all threads busy.
  const std::uint64_t window = std::uint64_t{4} * threads;

  // What every thread does: take the next index, work without the lock, commit what is due under it.
  const auto run = [&] {
    std::unique_lock lock(mutex);
    try {
      while (true) {
        progressed.wait(lock, [&] { return stop || next_start == count || next_start < next_commit + window; });
        // Nothing is left to start; what others still work at is committed by them.
        if (stop || next_start == count) return;
        const std::uint64_t index = next_start++;
        lock.unlock();
        Result result = work(index);
        lock.lock();
        finished.emplace(index, std::move(result));
        // Whoever finishes the piece that was waited for commits all that follow it without a gap.
        while (!stop && !finished.empty() && finished.begin()->first == next_commit) {
          status = commit(next_commit, std::move(finished.begin()->second));
          finished.erase(finished.begin());
          ++next_commit;
          stop = !status.ok();
        }
        progressed.notify_all();
      }
      // From work(), which ran without the lock, or from the map or commit(), which ran with it.
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      thrown = std::current_exception();
      stop = true;
      progressed.notify_all();
    }
  };

  // No more threads than pieces.
  const auto wanted = static_cast<unsigned>(std::min<std::uint64_t>(threads, count));
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < wanted; ++i) others.emplace_back(run);
  run();
  // Only then are the shared variables, which live on this stack, out of use.
  others.clear();  // joins
  if (thrown) std::rethrow_exception(thrown);
  return status;
}

}  // namespace q4
