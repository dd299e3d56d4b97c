// A user's regular expression over tensor names: --include, --exclude, --filter, recipe and gate rules.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace re2 {
class RE2;
}

namespace q4 {

// RE2 syntax (Perl's, without look-around and back-references), case-sensitive, searched anywhere in the name ("^" and
// "$" anchor it). Matching takes time linear in the name, whatever the expression. Immutable, thread-safe, cheap to
// copy.
class NamePattern {
 public:
  // `where` names the origin for the error message, e.g. "--exclude" or "rule 3". An expression that does not
  // compile is a usage error.
  static absl::StatusOr<NamePattern> Parse(std::string_view regex, std::string_view where);

  bool Matches(std::string_view name) const;

  const std::string& text() const { return text_; }

 private:
  NamePattern(std::string text, std::shared_ptr<const re2::RE2> regex);

  std::string text_;
  std::shared_ptr<const re2::RE2> regex_;
};

}  // namespace q4
