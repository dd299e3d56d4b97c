// The table of schemes and ways to find a row. Names come from the table of layouts (Q4SchemeName), so that a scheme is
// spelt in one place.
#include "libconvert/scheme/scheme.h"

#include <algorithm>
#include <array>

namespace q4 {
namespace {

// NF4 ascends, so its ends mirror each other; it has no mirror image of its zero. FP4 carries its sign in bit 3.
std::uint8_t MirrorNf4(std::uint8_t code) { return static_cast<std::uint8_t>(15 - code); }
std::uint8_t MirrorFp4(std::uint8_t code) { return code ^ 8; }

// The order is that of Q4Scheme, without kRaw.
constexpr std::array<Scheme, 2> kSchemes = {{
    {Q4Scheme::kNf4, CodeBook::kNf4, MirrorNf4},
    {Q4Scheme::kFp4, CodeBook::kFp4, MirrorFp4},
}};

}  // namespace

std::uint8_t Scheme::lowest_code() const {
  const auto values = code_values();
  return static_cast<std::uint8_t>(std::min_element(values.begin(), values.end()) - values.begin());
}

std::uint8_t Scheme::highest_code() const {
  const auto values = code_values();
  return static_cast<std::uint8_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

bool Scheme::is_symmetric() const {
  const auto values = code_values();
  for (std::uint8_t code = 0; code < values.size(); ++code) {
    if (values[mirror(code)] != -values[code]) return false;
  }
  return true;
}

std::span<const Scheme> Schemes() { return kSchemes; }

const Scheme& SchemeOf(Q4Scheme scheme) {
  // Not found would be a caller's fault (REQUIRES): readers refuse unknown schemes before a tensor exists.
  return *std::find_if(kSchemes.begin(), kSchemes.end(), [scheme](const Scheme& row) { return row.id == scheme; });
}

const Scheme& SchemeOf(const QuantFormat& format) { return SchemeOf(format.scheme); }

const Scheme* FindScheme(std::string_view name) {
  const auto found =
      std::find_if(kSchemes.begin(), kSchemes.end(), [name](const Scheme& row) { return row.name() == name; });
  return found == kSchemes.end() ? nullptr : &*found;
}

CodeBook CodeBookOf(Q4Scheme scheme) { return SchemeOf(scheme).book; }
CodeBook CodeBookOf(const QuantFormat& format) { return SchemeOf(format).book; }

std::vector<std::string> SchemeNames() {
  std::vector<std::string> names;
  for (const Scheme& scheme : kSchemes) names.emplace_back(scheme.name());
  return names;
}

}  // namespace q4
