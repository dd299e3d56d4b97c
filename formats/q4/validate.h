// The structural rules of docs/format.md that relate one field to another. Digests say that bytes were not damaged;
// these rules hold whoever computed the digests (F7.5). Pure; `path` is only for messages.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"

namespace q4 {

// The number of elements of a shape: false unless every dimension and the product are below 2^48.
bool ComputeQ4Elements(const Shape& shape, std::uint64_t* elems);

// The rules of one tensor record: name, dtype, rank, elems, scheme, encoder, block size, nesting. Not parts and
// statistics.
absl::Status ValidateQ4Tensor(const Q4Tensor& tensor, std::string_view path);

// The rules of one embedded file record.
absl::Status ValidateQ4File(const Q4EmbeddedFile& file, std::string_view path);

// Which tensor or file a chunk belongs to: `files` first, then `tensors`. 0 is files[0], files.size() is tensors[0].
using Q4ChunkOwners = std::vector<std::uint32_t>;

// Every rule across records: order and uniqueness of names, one owner per chunk, sizes computed from shapes, codecs,
// offsets without hole or overlap up to `index_offset`. Returns the chunks' owners. REQUIRES: ValidateQ4Tensor()
// holds for each tensor, ValidateQ4File() for each file, and its `first_chunk` is set.
absl::StatusOr<Q4ChunkOwners> ValidateQ4Index(const Q4Index& index, std::uint64_t index_offset, std::string_view path);

// F3.6 for scales: finite, and of the sign that the encoder gives. `raw` are whole f32 values of `part`; parts
// without f32 hold always. `first` is the number of the first value, for messages.
absl::Status ValidateQ4Scales(const Q4Tensor& tensor, Q4Part part, std::span<const std::uint8_t> raw,
                              std::uint64_t first, std::string_view path);

// F3.6 for codes: the last low nibble of a tensor with an odd number of elements. `last_byte` is the last byte of
// kCodes.
absl::Status ValidateQ4PaddingNibble(const Q4Tensor& tensor, std::uint8_t last_byte, std::string_view path);

}  // namespace q4
