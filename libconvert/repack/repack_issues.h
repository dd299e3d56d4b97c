// Rules of repacking a container. Those about the output's name and place are in libconvert/output.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// --add-file: by formats/q4/file_names, alone or beside the others.
inline constexpr Issue kRepackFileName{1750, ExitCode::kUsage, "no file of this name can be embedded"};
// --drop-file.
inline constexpr Issue kRepackNoSuchFile{1751, ExitCode::kUsage, "the container has no embedded file of this name"};
inline constexpr Issue kRepackFiles{1752, ExitCode::kUsage, "more embedded files than a container may have"};
// --tensor.
inline constexpr Issue kRepackNothing{1753, ExitCode::kUsage, "no tensor of the container has a name that matches"};
// Refused before the first byte is written.
inline constexpr Issue kRepackMemory{1754, ExitCode::kUsage, "less memory than repacking this container needs"};
// RepackRun::cancel was set. Nothing is left.
inline constexpr Issue kRepackInterrupted{4750, ExitCode::kInterrupted, "interrupted; run the same command again"};

}  // namespace q4
