// Rules of planning and converting. Those about the output's name and place are checked before any payload is read;
// docs/errors.md is generated from this file.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// The output, a partial file or the journal would overwrite what is being converted, under this name or another.
inline constexpr Issue kOutputIsInput{1101, ExitCode::kUsage, "the output is one of the input files"};
inline constexpr Issue kWouldReplace{1102, ExitCode::kUsage, "the output exists; use --force to replace it"};
// --force replaces what q4convert made (replace.h).
inline constexpr Issue kNotOurs{1560, ExitCode::kUsage, "the output exists and is nothing that --force would replace"};
inline constexpr Issue kOutputNotAFile{1103, ExitCode::kUsage, "the output must be a regular file"};
inline constexpr Issue kOutputName{1104, ExitCode::kUsage, "the output's name must end in .q4"};
inline constexpr Issue kOutputDirectory{2101, ExitCode::kIo, "the output's directory does not exist"};
// Both name the tensor; the first one its first such element too. Found while converting, never while planning.
inline constexpr Issue kNonFinite{4101, ExitCode::kInvalidInput,
                                  "element is NaN or infinite; --on-nonfinite keep would store the tensor unquantized"};
// Of a tensor that nobody asked to quantize: a norm with a NaN makes every output one.
inline constexpr Issue kKeptNan{4103, ExitCode::kInvalidInput,
                                "element of a kept tensor is NaN; --on-nonfinite keep stores it as it is"};
inline constexpr Issue kKeepOverflow{4102, ExitCode::kInvalidInput, "--keep-dtype makes finite elements infinite"};
// Less than MinimumPipelineMemory(). Refused before the first byte is written.
inline constexpr Issue kMemoryTooSmall{1106, ExitCode::kUsage, "less memory than this checkpoint needs"};
// RunOptions::cancel was set. The next run of the same command resumes.
inline constexpr Issue kInterruptedRun{4901, ExitCode::kInterrupted, "interrupted; run the same command again"};

}  // namespace q4
