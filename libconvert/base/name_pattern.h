// A user's regular expression over tensor names: --include, --exclude, --filter, recipe and gate rules.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace re2 {
// Declared, not included: this header is used by wings that need not see RE2.
class RE2;
}  // namespace re2

namespace q4 {

// RE2 syntax (Perl's, without look-around and back-references), case-sensitive, searched anywhere in the name ("^" and
// "$" anchor it). Matching takes time linear in the name, whatever the expression. Immutable, thread-safe, cheap to
// copy.
class NamePattern {
 public:
  // `where` names the origin for the error message, e.g. "--exclude" or "rule 3". An expression that does not
  // compile is a usage error. kBadPattern with RE2's reason, also for an expression that would need more than 1 MiB
  // compiled; kPatternNotUtf8; kPatternEmpty.
  static absl::StatusOr<NamePattern> Parse(std::string_view regex, std::string_view where);

  // `text` as an expression that matches it and nothing else.
  static std::string Quoted(std::string_view text);

  // Whether the expression is found in `name`, UTF-8.
  bool Matches(std::string_view name) const;

  // The expression as the user wrote it, for messages and provenance.
  const std::string& text() const { return text_; }

 private:
  NamePattern(std::string text, std::shared_ptr<const re2::RE2> regex);

  std::string text_;
  // Shared by copies: compiling is what costs.
  std::shared_ptr<const re2::RE2> regex_;
};

}  // namespace q4
