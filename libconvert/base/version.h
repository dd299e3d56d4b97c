// The versions that q4 states about itself: in --version, in every JSON document and in the provenance of every
// container. The numerics version tells whether two containers of one source must have the same bits.
#pragma once

#include <string_view>

namespace q4 {

// Of the tools, the library and the package: CMakeLists.txt and pyproject.toml read it here.
inline constexpr std::string_view kQ4Version = "0.2.0";
inline constexpr std::string_view kNumericsVersion =
    "q4n-1";  // docs/numerics.md Q10.7: any change to bits is a new version

}  // namespace q4
