// Rules of models as they are read back: containers and published 4-bit checkpoints alike.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBnbWeight{6403, ExitCode::kInvalidInput,
                                  "bitsandbytes weight cannot be decoded; q4inspect --lint says what is wrong"};

}  // namespace q4
