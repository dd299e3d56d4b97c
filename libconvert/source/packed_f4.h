// Carries out SourceRecipe::kPackedF4: 4-bit floats times the scales of their blocks. docs/numerics.md, section Q14.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// As SourceReader::Read(), for a tensor of this recipe. Takes some 30 KiB of stack, and 192 KiB of scratch for a
// transposed tensor, which is not counted in the memory bound, as that of ReadStrided(). A transposed tensor is read
// fastest in ranges of many rows: each byte of codes holds two of them.
absl::Status ReadPackedF4(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                          std::span<std::uint8_t> out);

}  // namespace q4
