// The table of schemes. A row here is the first half of a new scheme; the second is its arithmetic (libconvert/scheme,
// kernels). Everything else asks the table.
#include "formats/q4/scheme_layout.h"

#include <algorithm>
#include <array>

namespace q4 {
namespace {

// Zero codes: numerics Q3.2. The values of the enumeration ascend, and kRaw is first, which Q4QuantizedLayouts() cuts
// off.
constexpr std::array<Q4SchemeLayout, 3> kLayouts = {{
    {Q4Scheme::kRaw, "raw", 0},
    {Q4Scheme::kNf4, "nf4", 7},
    {Q4Scheme::kFp4, "fp4", 0},
}};

template <typename Matches>
const Q4SchemeLayout* Find(std::span<const Q4SchemeLayout> among, const Matches& matches) {
  const auto found = std::find_if(among.begin(), among.end(), matches);
  return found == among.end() ? nullptr : &*found;
}

}  // namespace

std::span<const Q4SchemeLayout> Q4SchemeLayouts() { return kLayouts; }

std::span<const Q4SchemeLayout> Q4QuantizedLayouts() { return Q4SchemeLayouts().subspan(1); }

const Q4SchemeLayout* FindQ4Layout(Q4Scheme scheme) {
  return Find(Q4SchemeLayouts(), [scheme](const Q4SchemeLayout& row) { return row.scheme == scheme; });
}

const Q4SchemeLayout* FindQ4Layout(std::string_view name) {
  return Find(Q4QuantizedLayouts(), [name](const Q4SchemeLayout& row) { return row.name == name; });
}

// A scheme that is not in the table would be a null pointer: see REQUIRES.
std::string_view Q4SchemeName(Q4Scheme scheme) { return FindQ4Layout(scheme)->name; }

}  // namespace q4
