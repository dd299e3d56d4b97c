// How far a long operation has come, and how its caller stops it. Handed to the long operations (convert, verify,
// export, load) with their options; libraries print nothing themselves.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

namespace q4 {

// Where an operation stands at the moment of the call.
struct Progress {
  std::uint64_t done_bytes = 0;  // of source bytes read and finished with
  std::uint64_t total_bytes = 0;
  // Tensors finished, all their parts written or checked.
  std::uint64_t done_tensors = 0;
  std::uint64_t total_tensors = 0;
  std::string_view tensor;  // the one worked on; valid during the call only
};

// Called now and then, from one thread at a time. May be empty.
using ProgressCallback = std::function<void(const Progress&)>;

// Set by a signal handler or another thread; long operations look at it between chunks and then return the
// "interrupted" error (exit code 7). May be null.
using CancelFlag = const std::atomic<bool>;

}  // namespace q4
