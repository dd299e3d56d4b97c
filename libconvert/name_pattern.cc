// GCC 12 takes std::regex's own code for a use of uninitialized memory when a sanitizer is on (GCC bug 105562). The
// pragma has to stand in front of <regex>.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "libconvert/name_pattern.h"

#include <algorithm>
#include <utility>

#include "formats/base/text.h"
#include "libconvert/policy_issues.h"

namespace q4 {
namespace {

// Whether `regex` repeats or refers back by a number of more digits than fit: libstdc++ lets that overflow, which is
// undefined.
bool HasHugeNumber(std::string_view regex) {
  constexpr std::ptrdiff_t kMostDigits = 9;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (auto at = regex.begin(); at != regex.end();) {
    const char before = *at++;
    const auto end = std::find_if_not(at, regex.end(), is_digit);
    if ((before == '{' || before == ',' || before == '\\') && end - at > kMostDigits) return true;
    at = end;
  }
  return false;
}

}  // namespace

absl::StatusOr<NamePattern> NamePattern::Parse(std::string_view regex, std::string_view where) {
  if (!IsUtf8(regex)) return Fail(kPatternNotUtf8, "", where, regex);
  if (HasHugeNumber(regex)) return Fail(kBadPattern, "", where, "'" + std::string(regex) + "': a number is too large");
  // A string of our own, for libstdc++ looks at the character behind a final "(": here the terminator.
  std::string text(regex);
  // std::regex reports by exceptions only; this file is the one place that meets them.
  try {
    std::regex compiled(text, std::regex::ECMAScript);
    return NamePattern(std::move(text), std::move(compiled));
  } catch (const std::regex_error& error) {
    return Fail(kBadPattern, "", where, "'" + std::string(regex) + "': " + error.what());
  }
}

bool NamePattern::Matches(std::string_view name) const {
  try {
    return std::regex_search(name.begin(), name.end(), regex_);
  } catch (const std::regex_error&) {
    return false;
  }
}

}  // namespace q4
