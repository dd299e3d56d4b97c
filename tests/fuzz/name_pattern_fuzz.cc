// Name patterns: the first line is the expression, the rest the name.
#include <algorithm>
#include <string>

#include "libconvert/base/name_pattern.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

bool IsLiteral(std::string_view pattern) {
  return std::all_of(pattern.begin(), pattern.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(name_pattern) {
  using namespace q4;
  const std::string_view text = fuzz::TextOf(data, size);
  const std::size_t newline = std::min(text.find('\n'), text.size());
  const std::string_view expression = text.substr(0, newline);
  const std::string_view name = text.substr(std::min(newline + 1, text.size()));
  const auto pattern = NamePattern::Parse(expression, "--include");
  if (!pattern.ok()) {
    fuzz::CheckError(pattern.status());
    return 0;
  }
  Q4_FUZZ_CHECK(pattern->text() == expression);
  const bool matches = pattern->Matches(name);
  Q4_FUZZ_CHECK(pattern->Matches(name) == matches);
  // A group more changes nothing.
  const auto grouped = NamePattern::Parse("(?:" + std::string(expression) + ")", "--include");
  if (grouped.ok()) Q4_FUZZ_CHECK(grouped->Matches(name) == matches);
  if (fuzz::IsLiteral(expression)) Q4_FUZZ_CHECK(matches == (name.find(expression) != std::string_view::npos));
  return 0;
}
