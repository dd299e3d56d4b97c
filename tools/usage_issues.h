// Rules of the command line.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadFlag{1001, ExitCode::kUsage, "bad command line"};
inline constexpr Issue kNotYetEncoderMse{5901, ExitCode::kUnsupported,
                                         "--encoder mse is specified (docs/numerics.md Q9) but not part of this version"};
inline constexpr Issue kNotYetReport{5903, ExitCode::kUnsupported,
                                     "HTML, JUnit and Markdown reports and gate files are not part of this version; "
                                     "use --json and the threshold flags"};

}  // namespace q4
