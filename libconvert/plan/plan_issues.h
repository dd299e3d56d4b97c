// What a plan refuses of its own (1105). Encoders, patterns and configurations are refused by the rules of policy/.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Before anything is written: the number of shards follows from the sizes of the tensors.
inline constexpr Issue kTooManyParts{1105, ExitCode::kUsage, "--shard-size makes too many parts"};

}  // namespace q4
