// SourceRecipe::kStrided: elements that lie apart in their file, as those of a transposed or sliced PyTorch tensor do.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// As SourceReader::Read() for a tensor of that recipe. Beside `out` 512 KiB of memory. What lies close together is read
// at once, at the price of what lies between, so that a transposed matrix takes a read for each column and not for each
// element. Thread-safe.
absl::Status ReadStrided(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                         std::span<std::uint8_t> out);

}  // namespace q4
