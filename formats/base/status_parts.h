// Which file and which tensor an error is about, apart from its message: for callers that hand errors on as values of
// another language (python/bind).
#pragma once

#include <string>

#include "absl/status/status.h"

namespace q4 {

// The file that Fail() or InFile() was told, as it is; "" where none was.
std::string FileOf(const absl::Status& status);

// The name between the quotes where Fail() was told a place such as "tensor 'x', codes, chunk 2"; "" for others.
// Untrusted text, not escaped.
std::string TensorOf(const absl::Status& status);

}  // namespace q4
