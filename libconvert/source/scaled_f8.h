// Carries out SourceRecipe::kScaledF8: 8-bit floats times their scales. docs/numerics.md, section Q13.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// As SourceReader::Read(), for a tensor of this recipe. Takes some 45 KiB of stack and nothing else, so that it counts
// with the stacks of threads and not in the memory bound: codes are read into the end of `out`.
absl::Status ReadScaledF8(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                          std::span<std::uint8_t> out);

}  // namespace q4
