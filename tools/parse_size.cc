// Sizes and numbers as people type them.
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "tools/options.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

// Disk makers' units and those of memory are both in use, so both are taken, in their exact senses; upper and lower
// case make no difference, since nobody asks for millibytes or bits.
absl::StatusOr<std::uint64_t> ParseSize(const std::string& text) {
  static constexpr std::array<std::pair<std::string_view, double>, 15> kUnits{{{"", 1},
                                                                               {"B", 1},
                                                                               {"K", 1e3},
                                                                               {"KB", 1e3},
                                                                               {"KiB", 1024.0},
                                                                               {"M", 1e6},
                                                                               {"MB", 1e6},
                                                                               {"MiB", 1048576.0},
                                                                               {"G", 1e9},
                                                                               {"GB", 1e9},
                                                                               {"GiB", 1073741824.0},
                                                                               {"T", 1e12},
                                                                               {"TB", 1e12},
                                                                               {"TiB", 1099511627776.0},
                                                                               {"EiB", 1152921504606846976.0}}};
  // from_chars ignores the locale, which might have a decimal comma. Fixed: 1e3 is no size.
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error == std::errc() && std::isfinite(number) && number >= 0) {
    const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
    for (const auto& [name, factor] : kUnits) {
      const bool same = std::equal(unit.begin(), unit.end(), name.begin(), name.end(),
                                   [](char a, char b) { return Lower(a) == Lower(b); });
      // Below 2^63, so that sums of two sizes cannot wrap.
      if (same && number * factor < 9.2e18) return static_cast<std::uint64_t>(number * factor);
    }
  }
  return Fail(kBadFlag, {}, "size", GotExpected(text, "a number with KiB, MiB, GiB, KB, MB or GB"));
}

std::string ProblemOfCount(std::uint64_t least, std::uint64_t most, std::string* text) {
  std::uint64_t value = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || rest != end || value < least || value > most) {
    return fmt::format("a number from {} to {} is expected, got {}", least, most, *text);
  }
  *text = std::to_string(value);
  return {};
}

// Written so that NaN is refused too; from_chars ignores the locale, which might have a decimal comma.
std::string ProblemOfNumber(double least, double most, const std::string& text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && rest == end && std::isfinite(value) && value >= least && value <= most) return {};
  return std::isinf(least)  ? fmt::format("a number is expected, got {}", text)
         : std::isinf(most) ? fmt::format("a number of at least {} is expected, got {}", least, text)
                            : fmt::format("a number from {} to {} is expected, got {}", least, most, text);
}

}  // namespace q4
