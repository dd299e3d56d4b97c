// What a plan refuses of its own (1105). Encoders, patterns and configurations are refused by the rules of policy/.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Before anything is written: the number of shards follows from the sizes of the tensors.
inline constexpr Issue kTooManyParts{1105, ExitCode::kUsage, "--shard-size makes too many parts"};

// MXFP4, NVFP4, a .q4: without ConvertOptions::from_quantized.
inline constexpr Issue kFromQuantized{5810, ExitCode::kUnsupported,
                                      "the weights are quantized to 4 bits already, and quantizing them again adds a "
                                      "second error to the first"};

// The provenance and the list of shards are JSON, which holds no other text.
inline constexpr Issue kSourceName{4620, ExitCode::kInvalidInput,
                                   "the name of a weights file must be UTF-8 text, for the container records it; "
                                   "rename the file"};

}  // namespace q4
