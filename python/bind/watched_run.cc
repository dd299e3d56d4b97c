#include "python/bind/watched_run.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "kernels/kernels.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

// A pressed Ctrl-C is answered within this time and that of a chunk.
constexpr std::chrono::milliseconds kLook(50);
constexpr std::chrono::milliseconds kTell(100);

// Where the work stands, with a name of its own: the library's is valid during its call only.
struct Standing {
  std::uint64_t done_bytes = 0, total_bytes = 0, done_tensors = 0, total_tensors = 0;
  std::string tensor;
};

// What the two threads share.
struct Watch {
  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  bool news = false;  // `standing` was not told yet
  Standing standing;
  std::atomic<bool> cancel{false};
};

void Tell(const nb::object& progress, const Standing& at) {
  progress(at.done_bytes, at.total_bytes, at.done_tensors, at.total_tensors,
           nb::bytes(at.tensor.data(), at.tensor.size()));
}

}  // namespace

void RunWatchedWork(const nb::object& progress, const WatchedWork& work) {
  Watch watch;
  ProgressCallback note;
  if (!progress.is_none()) {
    note = [&watch](const Progress& at) {
      const std::lock_guard lock(watch.mutex);
      watch.standing = {at.done_bytes, at.total_bytes, at.done_tensors, at.total_tensors, std::string(at.tensor)};
      watch.news = true;
    };
  }
  std::thread worker;
  try {
    worker = std::thread([&] {
      {
        const ScopedFloatEnvironment canonical;
        work(note, &watch.cancel);
      }
      const std::lock_guard lock(watch.mutex);
      watch.done = true;
      watch.ended.notify_all();
    });
  } catch (...) {
    throw StatusError(StatusOfException());
  }
  std::exception_ptr raised;
  auto told = std::chrono::steady_clock::now();
  for (bool done = false; !done;) {
    std::optional<Standing> news;
    {
      const nb::gil_scoped_release unlocked;
      std::unique_lock lock(watch.mutex);
      done = watch.ended.wait_for(lock, kLook, [&watch] { return watch.done; });
      const auto now = std::chrono::steady_clock::now();
      if (watch.news && (done || now - told >= kTell)) {
        news = watch.standing;
        watch.news = false;
        told = now;
      }
    }
    // One exception is enough; what comes after it waits for the work's end alone.
    if (raised) continue;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (news) Tell(progress, *news);
    } catch (...) {
      raised = std::current_exception();
      watch.cancel.store(true);
    }
  }
  {
    const nb::gil_scoped_release unlocked;
    worker.join();
  }
  if (raised) std::rethrow_exception(raised);
}

}  // namespace q4::python
