// Long work, called from Python: it runs on a thread of its own without the interpreter's lock, while the calling
// thread waits for it, hands its progress on and looks for signals.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "libconvert/base/progress.h"
#include "python/bind/status_error.h"
#include "tools/tool_main.h"

namespace q4::python {

using WatchedWork = std::function<void(const ProgressCallback& progress, CancelFlag* cancel)>;

// Runs `work`, which must not throw, in the canonical float environment whatever the caller's is. `progress` is None or
// called as progress(done_bytes, total_bytes, done_tensors, total_tensors, tensor) on the calling thread, at most ten
// times a second, and once more with where the work ended. Where a signal's handler or `progress` raises, `work` is
// asked to stop, waited for, and the exception thrown (nanobind::python_error). REQUIRES: the interpreter's lock is
// held.
void RunWatchedWork(const nanobind::object& progress, const WatchedWork& work);

// The same for work with a result, whose errors are thrown as StatusError.
template <typename T, typename Work>
T RunWatched(const nanobind::object& progress, const Work& work) {
  std::optional<absl::StatusOr<T>> result;
  RunWatchedWork(progress, [&](const ProgressCallback& callback, CancelFlag* cancel) {
    try {
      result.emplace(work(callback, cancel));
    } catch (...) {
      result.emplace(StatusOfException());
    }
  });
  return ValueOf(*std::move(result));
}

}  // namespace q4::python
