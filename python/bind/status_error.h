// The way of an absl::Status out of C++: thrown as StatusError, it becomes the class of q4/_errors.py that belongs to
// its exit code. Errors are values up to here; nothing of the library throws.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/status.h"

namespace q4::python {

class StatusError : public std::exception {
 public:
  // REQUIRES: `status` is an error.
  explicit StatusError(absl::Status status) : status_(std::move(status)), message_(MessageOf(status_)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
  std::string message_;
};

inline void ThrowIfError(const absl::Status& status) {
  if (!status.ok()) throw StatusError(status);
}

// The value, or its error thrown.
template <typename T>
T ValueOf(absl::StatusOr<T> value) {
  ThrowIfError(value.status());
  return *std::move(value);
}

// Called once, when the module is imported.
void RegisterStatusError();

}  // namespace q4::python
