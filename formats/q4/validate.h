// The structural rules of docs/format.md that relate one field to another. Digests say that bytes were not damaged;
// these rules hold whoever computed the digests (F7.5). The reader applies them to a file and the writer to what it is
// about to write, so that the two cannot disagree. Pure; `path` is only for messages. All errors have exit code 6 and
// are in q4_issues.h; the writer turns them into its own.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"

namespace q4 {

// The number of elements of a shape: the product of the dimensions, 1 for a scalar. False unless every dimension and
// the product are below 2^48. Stricter than CountElements(), for the format bounds each dimension even beside a 0.
bool ComputeQ4Elements(const Shape& shape, std::uint64_t* elems);

// The rules of one tensor record: name, dtype, rank, elems, scheme, encoder, block size, nesting. Not parts and
// statistics. kQ4TensorName, kQ4TensorShape or kQ4TensorRecord. After it every enumerator is one, and sizes of parts
// cannot overflow.
absl::Status ValidateQ4Tensor(const Q4Tensor& tensor, std::string_view path);

// The rules of one embedded file record: kQ4FileName for its name (Q4FileNameProblem()), kQ4FileRecord for its size.
absl::Status ValidateQ4File(const Q4EmbeddedFile& file, std::string_view path);

// Which tensor or file each chunk belongs to, one number per chunk: `files` first, then `tensors`. 0 is files[0],
// files.size() is tensors[0].
using Q4ChunkOwners = std::vector<std::uint32_t>;

// Every rule across records: order and uniqueness of names (kQ4FileTwins: also on systems that do not tell upper from
// lower case), one owner per chunk, sizes computed from shapes, codecs,
// offsets without hole or overlap up to `index_offset`, where the index begins in the file. Returns the chunks' owners.
// Linear in tensors and chunks; takes 12 bytes per chunk.
//
// REQUIRES: ValidateQ4Tensor() holds for each tensor, ValidateQ4File() for each file, and its `first_chunk` is set.
absl::StatusOr<Q4ChunkOwners> ValidateQ4Index(const Q4Index& index, std::uint64_t index_offset, std::string_view path);

// F3.6 for scales: finite, and of the sign that the encoder gives (kQ4ScaleValue). `raw` are whole f32 values of
// `part`, which may be a piece of it; parts without f32 hold always. `first` is the number of the first value, for
// messages.
absl::Status ValidateQ4Scales(const Q4Tensor& tensor, Q4Part part, std::span<const std::uint8_t> raw,
                              std::uint64_t first, std::string_view path);

// F3.6 for codes: the last low nibble of a tensor with an odd number of elements (kQ4PaddingNibble). `last_byte` is the
// last byte of kCodes. Holds for an even number, and for codes taken over from elsewhere.
absl::Status ValidateQ4PaddingNibble(const Q4Tensor& tensor, std::uint8_t last_byte, std::string_view path);

}  // namespace q4
