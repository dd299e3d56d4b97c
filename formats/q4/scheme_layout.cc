// The table of schemes. A row here is the first half of a new scheme; the second is its arithmetic (libconvert/scheme,
// kernels). Everything else asks the table.
#include "formats/q4/scheme_layout.h"

#include <algorithm>
#include <array>

namespace q4 {
namespace {

// Zero codes: numerics Q3.2. In the order of the enumeration.
constexpr std::array<Q4SchemeLayout, 3> kLayouts = {{
    {Q4Scheme::kRaw, "raw", 0},
    {Q4Scheme::kNf4, "nf4", 7},
    {Q4Scheme::kFp4, "fp4", 0},
}};

}  // namespace

std::span<const Q4SchemeLayout> Q4SchemeLayouts() { return kLayouts; }

const Q4SchemeLayout* FindQ4Layout(Q4Scheme scheme) {
  const auto found = std::find_if(kLayouts.begin(), kLayouts.end(),
                                  [scheme](const Q4SchemeLayout& row) { return row.scheme == scheme; });
  return found == kLayouts.end() ? nullptr : &*found;
}

// A scheme that is not in the table would be a null pointer: see REQUIRES.
std::string_view Q4SchemeName(Q4Scheme scheme) { return FindQ4Layout(scheme)->name; }

}  // namespace q4
