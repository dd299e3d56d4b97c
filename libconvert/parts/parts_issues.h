// Rules of conversions in parts (docs/scale_out.md).
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadPart{1310, ExitCode::kUsage, "a part is I/N, counted from 0 and less than N"};
inline constexpr Issue kPartFromEnvironment{1311, ExitCode::kUsage, "the environment does not say which part this is"};
// Not even with --force: no model may be replaced piece by piece.
inline constexpr Issue kModelComplete{1312, ExitCode::kUsage,
                                      "a model of this name is complete, and parts would replace it piece by piece; "
                                      "choose another name, or remove it first"};
// What --merge asks for. None of them mends itself: a run that waits for others must not be tried again and again.
inline constexpr Issue kPartsMissing{6310, ExitCode::kCheckFailed, "parts of the model are not converted yet"};
inline constexpr Issue kPartsMixed{6311, ExitCode::kCheckFailed, "these parts are not of one conversion"};
inline constexpr Issue kShardReplaced{6312, ExitCode::kCheckFailed,
                                      "the file is not the shard that its record tells of; convert its part again"};
// Of a record alone; a merge counts the shard as missing.
inline constexpr Issue kPartRecord{6313, ExitCode::kCheckFailed, "the record of a part is damaged; convert it again"};
// q4verify --merge.
inline constexpr Issue kVerifyPartsMissing{6314, ExitCode::kCheckFailed, "shards of the model are not verified yet"};
inline constexpr Issue kVerifyPartsMixed{6315, ExitCode::kCheckFailed, "these reports are not of one verification"};
// A machine that computes wrongly.
inline constexpr Issue kShardsDisagree{9310, ExitCode::kInternal,
                                       "two conversions of the same source files by the same plan differ"};

}  // namespace q4
