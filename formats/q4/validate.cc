// Rules of one record come first, then those across records. The tensors are walked once in the order of the index and
// note what they expect of their chunks; then the payload is walked once in file order, so that each chunk is compared
// with what the shapes and the chunk before it determine.
#include "formats/q4/validate.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/text.h"
#include "formats/names/portable_names.h"
#include "formats/q4/chunk.h"
#include "formats/q4/file_names.h"
#include "formats/q4/layout.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"

namespace q4 {
namespace {

// Section 7 of the index.
constexpr std::uint64_t kProvenanceBytes = 16u << 20;

// Where an error is, as Fail() wants it; the name is escaped there.
std::string TensorPlace(const Q4Tensor& tensor) { return "tensor '" + tensor.name + "'"; }

// The rules of a quantized tensor (section 1 of the index); an empty text when they hold. Only three dtypes have
// kernels. A NaN or a stray offset would spoil every scale, so its bits are compared, -0 included.
std::string QuantizedProblem(const Q4Tensor& tensor) {
  if (!IsQuantizable(tensor.dtype)) return "quantized, but not of F16, BF16 or F32";
  if (!IsQ4BlockSize(tensor.block_size)) return fmt::format("block size {}", tensor.block_size);
  if (tensor.elems == 0) return "quantized, but without elements";
  if (!std::isfinite(tensor.nested_offset)) return "nested offset is not finite";
  if (!tensor.nested && std::bit_cast<std::uint32_t>(tensor.nested_offset) != 0) return "nested offset without nesting";
  return {};
}

// The rules of a kept tensor, which the container calls raw: what only quantizing gives a meaning must be 0.
std::string KeptProblem(const Q4Tensor& tensor) {
  if (tensor.encoder != Q4Encoder::kNone) return "raw, but with an encoder";
  if (tensor.block_size != 0) return "raw, but with a block size";
  if (tensor.nested || tensor.has_stats) return "raw, but nested or with statistics";
  if (std::bit_cast<std::uint32_t>(tensor.nested_offset) != 0) return "raw, but with a nested offset";
  return {};
}

// More than any owner's number: tensors and files are at most 1,001,000.
constexpr std::uint32_t kNoOwner = std::numeric_limits<std::uint32_t>::max();

// What the shape of a chunk's owner determines. Packed into 8 bytes, because there is one for each chunk of a file.
struct ExpectedChunk {
  std::uint32_t raw_bytes;
  std::uint16_t alignment;
  std::uint8_t planes;  // if it is compressed
};

// Gives every chunk to its owner, and notes what the owner expects of it. Owners come in the order of the index, which
// is not that of the payload.
class ChunkClaims {
 public:
  explicit ChunkClaims(std::size_t chunks) : owners_(chunks, kNoOwner), expected_(chunks) {}

  // Claims the chunks of one part for `owner`; false if they do not exist or belong to another.
  bool Claim(std::size_t owner, const Q4PartEntry& part, std::uint64_t chunk_size, std::uint8_t planes,
             std::uint64_t alignment) {
    // first_chunk is as untrusted as the file, and chunk_count may be as large as a shape of 2^48 elements makes it;
    // after this line both are within the index.
    if (!RangeFits(part.first_chunk, part.chunk_count, owners_.size())) return false;
    for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
      const std::uint64_t chunk = part.first_chunk + i;
      // Two owners would read the same bytes as different numbers.
      if (owners_[chunk] != kNoOwner) return false;
      owners_[chunk] = static_cast<std::uint32_t>(owner);
      expected_[chunk] = {static_cast<std::uint32_t>(Q4ChunkRawBytes(part.raw_bytes, chunk_size, i)),
                          static_cast<std::uint16_t>(i == 0 ? alignment : 1), planes};
    }
    return true;
  }

  const ExpectedChunk& expected(std::size_t chunk) const { return expected_[chunk]; }
  const Q4ChunkOwners& owners() const { return owners_; }
  Q4ChunkOwners TakeOwners() { return std::move(owners_); }

 private:
  // Both by chunk.
  Q4ChunkOwners owners_;
  std::vector<ExpectedChunk> expected_;
};

// F3.1 and F3.2: every chunk has exactly one owner, and an owner's chunks are consecutive.
absl::StatusOr<ChunkClaims> ClaimChunks(const Q4Index& index, std::string_view path) {
  ChunkClaims claims(index.chunks.size());
  for (std::size_t i = 0; i < index.files.size(); ++i) {
    const Q4EmbeddedFile& file = index.files[i];
    const Q4PartEntry whole{Q4Part::kData, file.raw_bytes, file.first_chunk, file.chunk_count};
    if (!claims.Claim(i, whole, kQ4ChunkBytes, 1, kQ4SegmentAlignment)) {
      return Fail(kQ4ChunkOwner, path, "file '" + file.name + "'");
    }
  }
  for (std::size_t i = 0; i < index.tensors.size(); ++i) {
    const Q4Tensor& tensor = index.tensors[i];
    // Of the first chunk of the segment; those of further parts follow at multiples of 64 (F3.3).
    std::uint64_t alignment = kQ4SegmentAlignment;
    for (const Q4PartEntry& part : tensor.parts()) {
      if (!claims.Claim(index.files.size() + i, part, Q4ChunkRawSize(part.part), Q4PlaneBytes(tensor, part.part),
                        alignment)) {
        return Fail(kQ4ChunkOwner, path, TensorPlace(tensor));
      }
      alignment = kQ4PartAlignment;
    }
  }
  // A chunk without an owner would be bytes that mean nothing, but are there.
  for (std::size_t chunk = 0; chunk < index.chunks.size(); ++chunk) {
    if (claims.owners()[chunk] == kNoOwner)
      return Fail(kQ4ChunkOwner, path, fmt::format("chunk {}", chunk), "has none");
  }
  return claims;
}

// Compares one chunk with what its owner and the chunks before it determine. `*end` is where the chunk before ended.
// Sizes come first (F3.5), then the codec (F4.1 to F4.3), then the place (F3.3), which needs a size that is right.
absl::Status ValidateChunk(const Q4Chunk& chunk, std::size_t number, const ExpectedChunk& expected, std::uint64_t* end,
                           std::string_view path) {
  const auto where = [number] { return fmt::format("chunk {}", number); };
  if (chunk.raw_bytes != expected.raw_bytes) {
    return Fail(kQ4ChunkSize, path, where(),
                GotExpected(fmt::to_string(chunk.raw_bytes), fmt::to_string(expected.raw_bytes)));
  }
  // Codec 1 must pay (F4.3), so a stored chunk cannot also be written as a compressed one that is larger.
  const bool stored = chunk.codec == Q4Codec::kStored;
  const bool size_holds = stored ? chunk.stored_bytes == chunk.raw_bytes
                                 : chunk.stored_bytes > 0 && CompressionPays(chunk.raw_bytes, chunk.stored_bytes);
  if (!size_holds || chunk.plane_bytes != (stored ? 1 : expected.planes)) {
    return Fail(kQ4ChunkCodec, path, where(),
                fmt::format("codec {}, {} planes, {} of {} bytes", static_cast<int>(chunk.codec), chunk.plane_bytes,
                            chunk.stored_bytes, chunk.raw_bytes));
  }
  std::uint64_t offset = 0;
  if (!CheckedAlignUp(*end, expected.alignment, &offset) || chunk.offset != offset ||
      !CheckedAdd(offset, chunk.stored_bytes, end)) {
    return Fail(kQ4ChunkPlace, path, where(), GotExpected(fmt::to_string(chunk.offset), fmt::to_string(offset)));
  }
  return absl::OkStatus();
}

// F3.3 from the header to the index: with every place computed, holes and overlaps cannot be.
absl::Status ValidatePayload(const Q4Index& index, const ChunkClaims& claims, std::uint64_t index_offset,
                             std::string_view path) {
  std::uint64_t end = kQ4HeaderBytes;
  for (std::size_t chunk = 0; chunk < index.chunks.size(); ++chunk) {
    Q4_RETURN_IF_ERROR(ValidateChunk(index.chunks[chunk], chunk, claims.expected(chunk), &end, path));
  }
  std::uint64_t expected = 0;
  if (!CheckedAlignUp(end, kQ4SegmentAlignment, &expected) || index_offset != expected) {
    return Fail(kQ4ChunkPlace, path, "index", GotExpected(fmt::to_string(index_offset), fmt::to_string(expected)));
  }
  return absl::OkStatus();
}

// F1.5: bytewise sorted, and unique, because equal neighbours are out of order too.
template <typename Items>
absl::Status ValidateOrder(const Items& items, const Issue& issue, std::string_view path) {
  for (std::size_t i = 1; i < items.size(); ++i) {
    // std::string compares as unsigned bytes (F1.5).
    if (items[i - 1].name >= items[i].name) return Fail(issue, path, "'" + items[i].name + "'");
  }
  return absl::OkStatus();
}

}  // namespace

bool ComputeQ4Elements(const Shape& shape, std::uint64_t* elems) {
  // A 0 among the dimensions makes the product 0, wherever it stands; the others are bounded all the same, so that the
  // answer does not depend on their order.
  bool empty = false;
  for (const std::uint64_t dim : shape) {
    if (dim >= limits::kTensorElements) return false;
    empty = empty || dim == 0;
  }
  *elems = empty ? 0 : 1;
  if (empty) return true;
  for (const std::uint64_t dim : shape) {
    if (!CheckedMul(*elems, dim, elems) || *elems >= limits::kTensorElements) return false;
  }
  return true;
}

// Name and shape first, so that later messages can show them. Enumerations are compared as numbers, for the decoder has
// cast whatever the file said.
absl::Status ValidateQ4Tensor(const Q4Tensor& tensor, std::string_view path) {
  if (tensor.name.empty() || tensor.name.size() > limits::kTensorNameBytes || !IsUtf8(tensor.name) ||
      tensor.name.find('\0') != std::string::npos) {
    return Fail(kQ4TensorName, path, TensorPlace(tensor));
  }
  std::uint64_t elems = 0;
  if (tensor.shape.size() > static_cast<std::size_t>(limits::kTensorDimensions) ||
      !ComputeQ4Elements(tensor.shape, &elems) || elems != tensor.elems) {
    return Fail(kQ4TensorShape, path, TensorPlace(tensor), ShapeString(tensor.shape));
  }
  const auto dtype = static_cast<int>(tensor.dtype);
  if (dtype < 1 || dtype > kMaxDType)
    return Fail(kQ4TensorRecord, path, TensorPlace(tensor), fmt::format("dtype {}", dtype));
  if (FindQ4Layout(tensor.scheme) == nullptr) {
    return Fail(kQ4TensorRecord, path, TensorPlace(tensor), fmt::format("scheme {}", static_cast<int>(tensor.scheme)));
  }
  if (FindQ4Encoder(tensor.encoder) == nullptr) {
    return Fail(kQ4TensorRecord, path, TensorPlace(tensor),
                fmt::format("encoder {}", static_cast<int>(tensor.encoder)));
  }
  const std::string problem = !tensor.quantized() ? KeptProblem(tensor) : QuantizedProblem(tensor);
  if (!problem.empty()) return Fail(kQ4TensorRecord, path, TensorPlace(tensor), problem);
  return absl::OkStatus();
}

absl::Status ValidateQ4File(const Q4EmbeddedFile& file, std::string_view path) {
  const std::string where = "file '" + file.name + "'";
  if (const std::string_view problem = Q4FileNameProblem(file.name); !problem.empty()) {
    return Fail(kQ4FileName, path, where, problem);
  }
  if (file.raw_bytes > limits::kEmbeddedFileBytes) {
    return Fail(kQ4FileRecord, path, where, fmt::format("{} bytes", file.raw_bytes));
  }
  return absl::OkStatus();
}

// Limits, then order, then owners, then places: each step relies on the one before.
absl::StatusOr<Q4ChunkOwners> ValidateQ4Index(const Q4Index& index, std::uint64_t index_offset, std::string_view path) {
  if (index.tensors.size() > limits::kTensorsPerCheckpoint) {
    return Fail(kQ4TensorRecord, path, "index", fmt::format("{} tensors", index.tensors.size()));
  }
  if (index.files.size() > limits::kEmbeddedFiles || (index.shard != 0 && !index.files.empty())) {
    return Fail(kQ4FileRecord, path, "index", fmt::format("{} files in shard {}", index.files.size(), index.shard));
  }
  std::uint64_t file_bytes = 0;  // cannot wrap: a thousand files of 32 bits
  for (const Q4EmbeddedFile& file : index.files) file_bytes += file.raw_bytes;
  if (file_bytes > limits::kEmbeddedTotalBytes) {
    return Fail(kQ4FileRecord, path, "index",
                GotExpected(fmt::format("{} bytes of embedded files", file_bytes),
                            fmt::format("at most {}", limits::kEmbeddedTotalBytes)));
  }
  // Only its size and encoding are rules of the container: readers ignore what they do not know in it (section 8).
  if (index.provenance.size() > kProvenanceBytes || !IsUtf8(index.provenance))
    return Fail(kQ4Provenance, path, "index");
  Q4_RETURN_IF_ERROR(ValidateOrder(index.tensors, kQ4TensorOrder, path));
  Q4_RETURN_IF_ERROR(ValidateOrder(index.files, kQ4FileOrder, path));
  PortableNames names;
  for (const Q4EmbeddedFile& file : index.files) {
    if (const std::string problem = names.Add(file.name); !problem.empty()) {
      return Fail(kQ4FileTwins, path, "file '" + file.name + "'", problem);
    }
  }
  Q4_ASSIGN_OR_RETURN(ChunkClaims claims, ClaimChunks(index, path));
  Q4_RETURN_IF_ERROR(ValidatePayload(index, claims, index_offset, path));
  return claims.TakeOwners();
}

absl::Status ValidateQ4Scales(const Q4Tensor& tensor, Q4Part part, std::span<const std::uint8_t> raw,
                              std::uint64_t first, std::string_view path) {
  if (part != Q4Part::kScales && part != Q4Part::kScales2) return absl::OkStatus();
  // Group scales have no sign, whoever chose the scales that they are of.
  const bool may_be_negative = part == Q4Part::kScales && !FindQ4Encoder(tensor.encoder)->absmax_scales;
  for (std::size_t i = 0; i < raw.size() / sizeof(float); ++i) {
    // Values in a chunk need not be aligned in memory.
    float scale;
    std::memcpy(&scale, raw.data() + i * sizeof scale, sizeof scale);
    if (std::isfinite(scale) && (may_be_negative || !std::signbit(scale))) continue;
    return Fail(kQ4ScaleValue, path, TensorPlace(tensor),
                fmt::format("{} {} is {}", Q4PartName(part), first + i, scale));
  }
  return absl::OkStatus();
}

// Codes taken over from elsewhere (kNone) keep the nibble that they came with: their bytes are not ours to change.
absl::Status ValidateQ4PaddingNibble(const Q4Tensor& tensor, std::uint8_t last_byte, std::string_view path) {
  if (tensor.elems % 2 == 0 || tensor.encoder == Q4Encoder::kNone) return absl::OkStatus();
  const int expected = FindQ4Layout(tensor.scheme)->zero_code;
  const int got = last_byte & 0xF;
  if (got == expected) return absl::OkStatus();
  return Fail(kQ4PaddingNibble, path, TensorPlace(tensor), GotExpected(fmt::to_string(got), fmt::to_string(expected)));
}

}  // namespace q4
