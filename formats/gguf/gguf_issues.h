// The rules of GGUF that its reader checks. Exit code 3 says that the file is malformed, 5 that it is right and holds
// what q4 does not decode. What several files together get wrong is in formats/source/checkpoint_issues.h.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Also for a file of the other byte order, and for one that is no GGUF at all.
inline constexpr Issue kGgufVersion{3730, ExitCode::kInvalidInput, "GGUF must be of version 2 or 3, little-endian"};
// A count or a length that the rest of the file cannot hold; mostly a download that was cut.
inline constexpr Issue kGgufEndsEarly{3731, ExitCode::kInvalidInput,
                                      "header of the GGUF file exceeds the remaining bytes"};
inline constexpr Issue kGgufKey{3732, ExitCode::kInvalidInput,
                                "metadata key must be 1 to 65535 bytes of UTF-8 without NUL, each once"};
// A type that does not exist, arrays of arrays, a BOOL that is neither 0 nor 1, and a key that the reader needs with a
// value of another type.
inline constexpr Issue kGgufValue{3733, ExitCode::kInvalidInput, "metadata value is malformed"};
inline constexpr Issue kGgufLimit{3734, ExitCode::kInvalidInput, "header of the GGUF file is above the limit"};
inline constexpr Issue kGgufAlignment{3735, ExitCode::kInvalidInput,
                                      "general.alignment must be a UINT32 and a power of two from 8 to 65536"};
// Name, number of dimensions, or a name that comes twice.
inline constexpr Issue kGgufTensor{3736, ExitCode::kInvalidInput,
                                   "tensor must have a name of its own, 1 to 4096 bytes of UTF-8 without NUL, and 1 to "
                                   "4 dimensions with fewer than 2^48 elements"};
// No number of GGML, one that it gave up, or a first dimension that is no whole number of blocks.
inline constexpr Issue kGgufTensorType{3737, ExitCode::kInvalidInput, "tensor type does not exist or does not fit"};
// GGML itself asks for this: no gap but the padding, no overlap, in the order of the list.
inline constexpr Issue kGgufOffset{3738, ExitCode::kInvalidInput,
                                   "data must lie where that of the tensor before ends, aligned"};
// The tensors reach behind the end, mostly of a file that was cut, or bytes follow that belong to none.
inline constexpr Issue kGgufDataSize{3739, ExitCode::kInvalidInput, "data section is not that of the tensors"};

// Q4_K, Q8_0, MXFP4 and their like: a few bits an element with scales of a block.
inline constexpr Issue kGgufQuantized{5730, ExitCode::kUnsupported,
                                      "tensors are quantized in blocks, which q4 does not decode; start from the F16, "
                                      "BF16 or F32 GGUF, or from the safetensors checkpoint that it was made of"};

}  // namespace q4
