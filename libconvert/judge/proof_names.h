// TensorProof as documents write it.
#pragma once

#include <array>
#include <string_view>

#include "libconvert/judge/verify_report.h"

namespace q4 {

// In the order of TensorProof.
inline constexpr std::array<std::string_view, 6> kProofNames{"not_compared", "sample",  "equal",
                                                             "recomputed",   "bounded", "failed"};

}  // namespace q4
