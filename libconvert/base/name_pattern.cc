// RE2 as a search over names: no captures, no logging, a bound on memory. Patterns come from command lines and files,
// so neither their size nor their running time may get out of hand; RE2 has no backtracking, and the bound below
// refuses what would take too much memory.
#include "libconvert/base/name_pattern.h"

#include <re2/re2.h>

#include <cstdint>
#include <utility>

#include "formats/base/text.h"
#include "libconvert/base/pattern_issues.h"

namespace q4 {
namespace {

// Bytes that one expression may take, compiled and with the states that matching adds: far more than names need, and
// little enough for a recipe of many rules. What would need more is refused.
constexpr std::int64_t kMostMemory = 1 << 20;

re2::StringPiece PieceOf(std::string_view text) { return re2::StringPiece(text.data(), text.size()); }

}  // namespace

NamePattern::NamePattern(std::string text, std::shared_ptr<const re2::RE2> regex)
    : text_(std::move(text)), regex_(std::move(regex)) {}

absl::StatusOr<NamePattern> NamePattern::Parse(std::string_view regex, std::string_view where) {
  // Before RE2 sees it: its own message would quote the bytes.
  if (!IsUtf8(regex)) return Fail(kPatternNotUtf8, "", where, regex);
  if (regex.empty()) return Fail(kPatternEmpty, "", where);
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_never_capture(true);
  options.set_max_mem(kMostMemory);
  auto compiled = std::make_shared<const re2::RE2>(PieceOf(regex), options);
  std::string text(regex);
  if (!compiled->ok()) {
    // As files are named by.
    const bool glob = text.starts_with('*') || text.starts_with('?');
    return Fail(kBadPattern, "", where,
                "'" + text + "': " + compiled->error() +
                    (glob ? "; a regular expression matches anywhere in a name and needs no '*' around it" : ""));
  }
  return NamePattern(std::move(text), std::move(compiled));
}

std::string NamePattern::Quoted(std::string_view text) { return re2::RE2::QuoteMeta(PieceOf(text)); }

bool NamePattern::Matches(std::string_view name) const {
  // No groups are asked for (0), which lets RE2 stop at the first match it finds.
  return regex_->Match(PieceOf(name), 0, name.size(), re2::RE2::UNANCHORED, nullptr, 0);
}

}  // namespace q4
