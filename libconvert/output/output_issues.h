// Rules about the name and place of a container that is to be written: checked before any payload is read.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// The output, a partial file or the journal would overwrite what is being read, under this name or another.
inline constexpr Issue kOutputIsInput{1101, ExitCode::kUsage, "the output is one of the input files"};
inline constexpr Issue kWouldReplace{1102, ExitCode::kUsage, "the output exists; use --force to replace it"};
// --force replaces what q4convert made (replace.h).
inline constexpr Issue kNotOurs{1560, ExitCode::kUsage, "the output exists and is nothing that --force would replace"};
inline constexpr Issue kOutputNotAFile{1103, ExitCode::kUsage, "the output must be a regular file"};
inline constexpr Issue kOutputName{1104, ExitCode::kUsage, "the output's name must end in .q4"};
inline constexpr Issue kOutputDirectory{2101, ExitCode::kIo, "the output's directory does not exist"};

}  // namespace q4
