// Name patterns: the first line is the expression, the rest the name. Both are kept short and quantifiers few: a user
// may write an expression that takes exponential time (docs/safety.md), and that is not what this looks for.
#include <algorithm>

#include "libconvert/name_pattern.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

constexpr std::size_t kMostPattern = 16;
constexpr std::size_t kMostName = 10;
constexpr std::ptrdiff_t kMostQuantifiers = 3;

bool IsLiteral(std::string_view pattern) {
  return std::all_of(pattern.begin(), pattern.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

}  // namespace
}  // namespace q4::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace q4;
  const std::string_view text = fuzz::TextOf(data, size);
  const std::size_t newline = std::min(text.find('\n'), text.size());
  const std::string_view expression = text.substr(0, std::min(newline, fuzz::kMostPattern));
  const std::string_view name = text.substr(std::min(newline + 1, text.size()), fuzz::kMostName);
  const auto is_quantifier = [](char c) { return c == '*' || c == '+' || c == '?' || c == '{'; };
  if (std::count_if(expression.begin(), expression.end(), is_quantifier) > fuzz::kMostQuantifiers) return 0;
  const auto pattern = NamePattern::Parse(expression, "--include");
  if (!pattern.ok()) {
    fuzz::CheckError(pattern.status());
    return 0;
  }
  Q4_FUZZ_CHECK(pattern->text() == expression);
  const bool matches = pattern->Matches(name);
  Q4_FUZZ_CHECK(pattern->Matches(name) == matches);
  if (fuzz::IsLiteral(expression)) Q4_FUZZ_CHECK(matches == (name.find(expression) != std::string_view::npos));
  return 0;
}
