// Bytes of Python as text of C++.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "formats/base/status.h"
#include "python/bind/status_error.h"
#include "tools/usage_issues.h"

namespace q4::python {

// Of a path or a word: kBadFlag (UsageError) where it holds a NUL, at which the system would end it.
inline std::string TextOf(const nanobind::bytes& bytes) {
  std::string text(bytes.c_str(), bytes.size());
  if (text.find('\0') != std::string::npos) throw StatusError(Fail(kBadFlag, {}, {}, "'" + text + "' holds a NUL"));
  return text;
}

}  // namespace q4::python
