// Rules of the command line, and what ends a tool whatever it does.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadFlag{1001, ExitCode::kUsage, "bad command line"};
inline constexpr Issue kReportIsInput{1002, ExitCode::kUsage, "the report is one of the input files"};
inline constexpr Issue kReportTwice{1003, ExitCode::kUsage, "two reports cannot be one file"};
inline constexpr Issue kReportIsOutput{1004, ExitCode::kUsage,
                                       "the report is the output, or a file that belongs to it"};
inline constexpr Issue kReportIsCompanion{1005, ExitCode::kUsage,
                                          "the report would lie beside the source under a name that the next "
                                          "conversion embeds"};

inline constexpr Issue kCannotPrint{2090, ExitCode::kIo, "cannot write the results"};
inline constexpr Issue kToolOutOfMemory{2091, ExitCode::kIo,
                                        "out of memory: raise the process's limit or lower --max-memory"};
inline constexpr Issue kFloatEnvironment{9001, ExitCode::kInternal,
                                         "the floating-point environment flushes subnormals or does not round to "
                                         "nearest, so results would differ (a preloaded library set it?)"};
inline constexpr Issue kInternalError{9002, ExitCode::kInternal, "internal error"};

}  // namespace q4
