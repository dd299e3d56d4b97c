// Rules of models as they are read back: containers and published 4-bit checkpoints alike. What a single file may break
// stands in formats/; here is what shows only when tensors are put together.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// A part is absent, has another size, or comes with foreign tables. One rule for all of them: lint tells them apart.
inline constexpr Issue kBnbWeight{6403, ExitCode::kInvalidInput,
                                  "bitsandbytes weight cannot be decoded; q4inspect --lint says what is wrong"};

// While compressed chunks are read for the content identity.
inline constexpr Issue kContentInterrupted{6640, ExitCode::kInterrupted, "interrupted; nothing was written"};

}  // namespace q4
