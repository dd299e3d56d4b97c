// What can be wrong with a bitsandbytes weight that is to be taken over (374x), beside the rules of safetensors. The
// tensor is named by the weight, and what is wrong follows. Values of scales and maps are judged where the numbers are
// known, in libconvert.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// No JSON, a member that the library's loader does not know or lacks, a value that it never writes, another type in the
// tensor's name.
inline constexpr Issue kBnbQuantState{
    3740, ExitCode::kInvalidInput,
    "quant_state of a bitsandbytes weight cannot be used; q4inspect --lint says more, "
    "and saving the model again with the library that quantized it mends it"};
// One is missing, has another size or type than the quant_state says, belongs to no weight, or is there twice.
inline constexpr Issue kBnbParts{3741, ExitCode::kInvalidInput,
                                 "tensors of a bitsandbytes weight do not fit together; look for the missing ones in "
                                 "another shard, or save the model again"};

}  // namespace q4
