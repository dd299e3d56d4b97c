// What the functions of q4_loader_c.h share. No exception leaves them: callers are in C. Loads run on a thread of their
// own, because choosing a CUDA device changes the state of the thread that does. What a caller gets as const char*
// belongs to the model or plan, but for q4_last_error(), which is the thread's. Internal to libconvert/load/.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "libconvert/load/load.h"
#include "libconvert/load/q4_loader_c.h"

namespace q4::c {

// The exit code of a status; an error becomes the calling thread's last one. A success leaves that as it is.
int Code(const absl::Status& status);
// The same for an exception, which is short memory or a thread that could not be started.
int CodeOfException(const std::exception& error) noexcept;

// The code of what `call` returns or throws.
template <typename Call>
int Guarded(const Call& call) noexcept {
  try {
    return Code(call());
  } catch (const std::exception& error) {
    return CodeOfException(error);
  }
}

// Only the argument's name: its value may be anything, a pointer included.
absl::Status BadArgument(std::string_view what);

// What `work` returns or throws, on a thread of its own.
template <typename Work>
absl::Status OnOwnThread(const Work& work) {
  absl::Status status;
  std::exception_ptr thrown;
  // An exception must not leave a thread's function; it is carried over and is one of this thread then.
  std::thread([&] {
    try {
      status = work();
    } catch (...) {
      thrown = std::current_exception();
    }
  }).join();
  if (thrown) std::rethrow_exception(thrown);
  return status;
}

// A model that is kept open, for its embedded files and for messages.
struct OpenedModel {
  std::unique_ptr<Q4Model> files;
  // For q4_get_file() and q4_plan_get_file(). Thread-safe.
  absl::Status GetFile(const char* name, const char** content, std::uint64_t* bytes) const;

 private:
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::string> contents_;  // of embedded files that were asked for; guarded by mutex_
};

// Options, field by field.
absl::StatusOr<LoadForm> FormOf(std::int32_t form);
absl::StatusOr<LoadCheck> CheckOf(std::int32_t check);
absl::StatusOr<std::vector<std::string>> TensorsOf(const char* const* tensors, std::uint64_t count);
// The memory of a device. It may go before what was allocated of it.
absl::StatusOr<std::unique_ptr<LoadMemory>> MemoryOf(std::int32_t device);
// No text, or one that is no root, pins nothing, and is an error: going on would be a check that was switched off.
absl::StatusOr<Sha256> RootOf(const char* root);

// All of a tensor but addresses, which are NULL then. `nested`: whether the scales that are loaded are.
void Describe(const Q4Tensor& entry, const Shape& shape, std::uint64_t elems, DType dtype, bool nested, q4_tensor* to);
// A shape, outermost first. It fits: tensors have at most 8 dimensions, and the container's reader has checked that.
void CopyShape(const Shape& shape, std::uint32_t* rank, std::uint64_t (*to)[8]);

}  // namespace q4::c
