// A user's regular expression over tensor names: --include, --exclude, --filter, recipe and gate rules.
#pragma once

#include <regex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace q4 {

// ECMAScript syntax, case-sensitive, searched anywhere in the name ("^" and "$" anchor it). Immutable, thread-safe.
class NamePattern {
 public:
  // `where` names the origin for the error message, e.g. "--exclude" or "rule 3". An expression that does not
  // compile is a usage error.
  static absl::StatusOr<NamePattern> Parse(std::string_view regex, std::string_view where);

  // False as well for the rare name on which the expression exceeds the library's own limits.
  bool Matches(std::string_view name) const;

  const std::string& text() const { return text_; }

 private:
  NamePattern(std::string text, std::regex regex) : text_(std::move(text)), regex_(std::move(regex)) {}

  std::string text_;
  std::regex regex_;
};

}  // namespace q4
