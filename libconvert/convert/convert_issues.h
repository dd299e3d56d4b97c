// Rules of planning and converting.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kOutputIsInput{1101, ExitCode::kUsage, "the output is one of the input files"};
inline constexpr Issue kWouldReplace{1102, ExitCode::kUsage, "the output exists; use --force to replace it"};
inline constexpr Issue kOutputNotAFile{1103, ExitCode::kUsage, "the output must be a regular file"};
inline constexpr Issue kOutputName{1104, ExitCode::kUsage, "the output's name must end in .q4"};
inline constexpr Issue kOutputDirectory{2101, ExitCode::kIo, "the output's directory does not exist"};
inline constexpr Issue kTooManyParts{1105, ExitCode::kUsage, "--shard-size makes too many parts"};
inline constexpr Issue kNonFinite{4101, ExitCode::kInvalidInput,
                                  "element is NaN or infinite; --on-nonfinite keep would store the tensor unquantized"};
inline constexpr Issue kKeepOverflow{4102, ExitCode::kInvalidInput, "--keep-dtype makes finite elements infinite"};
inline constexpr Issue kMemoryTooSmall{1106, ExitCode::kUsage, "--max-memory is too small for this checkpoint"};
inline constexpr Issue kInterruptedRun{4901, ExitCode::kInterrupted, "interrupted; run the same command again"};

}  // namespace q4
