// The versions that q4 states about itself.
#pragma once

#include <string_view>

namespace q4 {

inline constexpr std::string_view kQ4Version = "0.1.0";
inline constexpr std::string_view kNumericsVersion =
    "q4n-1";  // docs/numerics.md Q10.7: any change to bits is a new version

}  // namespace q4
