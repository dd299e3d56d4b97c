// Rules of the command line, and what ends a tool whatever it does. Rules about values that only the library
// understands (devices, patterns, gates) are in its own headers.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// What the parser refuses; the detail is its message.
inline constexpr Issue kBadFlag{1001, ExitCode::kUsage, "bad command line"};
// Reports (report_files.h): the files that one must not be, in the order in which they are checked.
inline constexpr Issue kReportIsInput{1002, ExitCode::kUsage, "the report is one of the input files"};
// Of q4verify, which writes up to three.
inline constexpr Issue kReportTwice{1003, ExitCode::kUsage, "two reports cannot be one file"};
inline constexpr Issue kReportIsOutput{1004, ExitCode::kUsage,
                                       "the report is the output, or a file that belongs to it"};
// Also where no such file exists yet.
inline constexpr Issue kReportIsCompanion{1005, ExitCode::kUsage,
                                          "the report would lie beside the source under a name that the next "
                                          "conversion embeds"};
// Known by its first bytes (report_files.h).
inline constexpr Issue kReportNotOurs{1561, ExitCode::kUsage,
                                      "the report would replace a file that is no report of q4; remove it, or choose "
                                      "another name"};

// q4convert: what goes with a container, and what with a checkpoint.
inline constexpr Issue kNotRequantized{1755, ExitCode::kUsage,
                                       "a .q4 container is packed anew and not quantized again"};
inline constexpr Issue kNotOfRepack{1756, ExitCode::kUsage, "no option of packing a .q4 container anew"};
inline constexpr Issue kOfRepackOnly{1757, ExitCode::kUsage, "goes with a .q4 container as input"};

// The input has no name of which one could be made, or would be taken for the output.
inline constexpr Issue kNoOutputName{1340, ExitCode::kUsage, "the output has no name; give one by -o"};

// q4convert: no tensor could be treated differently.
inline constexpr Issue kEffortUnused{1960, ExitCode::kUsage,
                                     "--effort is about encoders that search; give --encoder mse, or a recipe that "
                                     "names it, or leave --effort out"};

// q4convert: choosing by a budget.
inline constexpr Issue kBudgetUnused{1653, ExitCode::kUsage,
                                     "says how to choose types and block sizes, and goes with --target-bpw, "
                                     "--target-nmse or --keep-most-sensitive"};
inline constexpr Issue kRecipeExists{1654, ExitCode::kUsage,
                                     "--write-recipe would replace a file; remove it or choose another name (--force "
                                     "replaces a recipe, and nothing else)"};

// q4convert: parts of a conversion. What is about the whole model goes with its merge, or with no part.
inline constexpr Issue kNotOfPart{1313, ExitCode::kUsage, "does not go with a part"};
inline constexpr Issue kNotOfMerge{1314, ExitCode::kUsage, "does not go with --merge or --status"};
inline constexpr Issue kPartsAlone{1315, ExitCode::kUsage, "--parts goes with --part-from-env or --status"};

// stdout is closed or full: the results are lost although the work was done.
inline constexpr Issue kCannotPrint{2090, ExitCode::kIo, "cannot write the results"};
// An allocation or a thread was refused.
inline constexpr Issue kToolOutOfMemory{2091, ExitCode::kIo,
                                        "out of memory: raise the process's limit or lower --max-memory"};
// Checked before any work (numerics Q10.2): results would not be those of other machines.
inline constexpr Issue kFloatEnvironment{9001, ExitCode::kInternal,
                                         "the floating-point environment flushes subnormals or does not round to "
                                         "nearest, so results would differ (a preloaded library set it?)"};
// The job was at work on something that takes long when it was to stop (tool_main.h).
inline constexpr Issue kStopped{4340, ExitCode::kInterrupted, "interrupted; run the same command again"};
// An exception that no code expected.
inline constexpr Issue kInternalError{9002, ExitCode::kInternal, "internal error"};

}  // namespace q4
