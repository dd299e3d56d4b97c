// The index of a .q4 file as one run of bytes (docs/format.md section 5), both ways. layout.h has its records,
// validate.h the rules between them, reader.h and writer.h read and write the file around it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/q4/layout.h"

namespace q4 {

// Exact size of the index, section table and padding included, from what the plan knows: tensors (name, shape,
// has_stats), files (name), and the two totals. Cannot overflow for what ValidateQ4Tensor() and ValidateQ4File()
// accept.
std::uint64_t Q4IndexBytes(const Q4Index& index, std::uint64_t chunk_count, std::uint64_t provenance_bytes);

// The bytes of the index, Q4IndexBytes() of them. Same index, same bytes. REQUIRES: ValidateQ4Index() holds, each
// tensor with has_stats has its stats, and the size is within limits::kQ4IndexBytes.
std::vector<std::uint8_t> EncodeQ4Index(const Q4Index& index);

// The index and, from the header, what identifies the file. Checks everything that one record can tell
// (ValidateQ4Tensor, ...); the caller goes on with ValidateQ4Index(). Safe on any bytes, whether or not their digest is
// right. `path` is for messages. Errors have exit code 6 (kQ4SectionTable, kQ4SectionContent, kQ4ReservedNotZero, those
// of the records), or 5 for a required section of a newer version (kQ4UnknownSection).
//
// Chunks and statistics stay where they are, so the result keeps `bytes` alive; the rest takes no more than a small
// multiple of it. REQUIRES: bytes.data() is aligned as operator new does it.
absl::StatusOr<Q4Index> DecodeQ4Index(const Q4Header& header, const SharedArray<std::uint8_t>& bytes,
                                      std::string_view path);

}  // namespace q4
