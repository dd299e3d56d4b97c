// Rules of converting. Those about the output's name and place are in libconvert/output; docs/errors.md is generated
// from these files.
#pragma once

#include "formats/base/status.h"

namespace q4 {

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
