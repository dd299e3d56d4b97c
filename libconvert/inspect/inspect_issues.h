// What q4inspect refuses (64xx). Both are faults of the command line. What is wrong with a file is found by the
// readers, under their own numbers.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kNoSuchTensor{6401, ExitCode::kUsage, "no tensor of that name"};
inline constexpr Issue kBadDumpRange{6402, ExitCode::kUsage, "--dump takes START:COUNT inside the tensor"};

// --command: the provenance does not tell what would make the container.
inline constexpr Issue kNoCommand{5340, ExitCode::kUnsupported, "no command makes this container again"};

}  // namespace q4
