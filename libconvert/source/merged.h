// SourceRecipe::kMerged: a weight with an adapter's product of factors added to it (docs/numerics.md Q15).
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// SourceReader::Read() for a tensor of this recipe. Holds about 1 MiB beside `out` for ranks up to 512, and at most
// 10 MiB for those that an adapter may have. Errors: as there; kAdapterNotFinite for what it reads of the adapter.
// Thread-safe.
absl::Status ReadMerged(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                        std::span<std::uint8_t> out);

}  // namespace q4
