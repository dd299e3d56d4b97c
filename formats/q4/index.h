// The index of a .q4 file as one run of bytes (docs/format.md section 5), both ways.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/q4/layout.h"

namespace q4 {

// Exact size of the index, from what the plan knows: tensors (name, shape, has_stats), files (name), and the two
// totals.
std::uint64_t Q4IndexBytes(const Q4Index& index, std::uint64_t chunk_count, std::uint64_t provenance_bytes);

// REQUIRES: ValidateQ4Index() holds, and the size is within limits::kQ4IndexBytes.
std::vector<std::uint8_t> EncodeQ4Index(const Q4Index& index);

// The index and, from the header, what identifies the file. Checks everything that one record can tell
// (ValidateQ4Tensor, ...); the caller goes on with ValidateQ4Index(). `path` is for messages.
//
// Chunks and statistics stay where they are, so the result keeps `bytes` alive; the rest takes no more than a small
// multiple of it. REQUIRES: bytes.data() is aligned as operator new does it.
absl::StatusOr<Q4Index> DecodeQ4Index(const Q4Header& header, const SharedArray<std::uint8_t>& bytes,
                                      std::string_view path);

}  // namespace q4
