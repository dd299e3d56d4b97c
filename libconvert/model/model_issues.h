// Rules of models as they are read back: containers and published 4-bit checkpoints alike. What a single file may break
// stands in formats/; here is what shows only when tensors are put together.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// A part is absent, has another size, or comes with foreign tables. One rule for all of them: lint tells them apart.
inline constexpr Issue kBnbWeight{6403, ExitCode::kInvalidInput,
                                  "bitsandbytes weight cannot be decoded; q4inspect --lint says what is wrong"};

// Of weights that are taken over.
inline constexpr Issue kBnbOtherType{3742, ExitCode::kInvalidInput,
                                     "quant_map of a bitsandbytes weight is that of another type than its quant_state "
                                     "names; save the model again with the library that quantized it"};
inline constexpr Issue kBnbScale{
    3743, ExitCode::kInvalidInput,
    "scale of a bitsandbytes weight is infinite or NaN, or one of a group negative; quantize the model again"};
// Well-formed, but a container has no place for it: readers decode with the tables of docs/numerics.md.
inline constexpr Issue kBnbTable{5740, ExitCode::kUnsupported,
                                 "table of a bitsandbytes weight holds other values than the library's; dequantize the "
                                 "model with the library that made it, and convert that"};
// Texts in another spelling than the library's, or codes stored as several dtypes: what an export must know of each
// weight stands in the provenance.
inline constexpr Issue kBnbRecord{5741, ExitCode::kUnsupported,
                                  "too many bitsandbytes weights are described in an unusual way; save the model again "
                                  "with the library"};
// While compressed chunks are read for the content identity.
inline constexpr Issue kContentInterrupted{6640, ExitCode::kInterrupted, "interrupted; nothing was written"};

}  // namespace q4
