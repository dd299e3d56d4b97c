// A chunk's digests say that its bytes are those that were written; decoding it and F3.6 say that they mean something.
// Both are needed: whoever makes a container computes the digests.
#include "formats/q4/verify.h"

#include <vector>

#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "formats/q4/validate.h"

namespace q4 {
namespace {

// Where a chunk lies in the part that holds it.
struct PartPlace {
  const Q4Tensor* tensor = nullptr;  // nullptr: an embedded file
  Q4Part part = Q4Part::kData;
  std::uint64_t first_byte = 0;
  bool last = false;
};

// The reader has checked that every chunk has an owner, so the loop ends with a part or at an embedded file.
PartPlace PlaceOf(const Q4Reader& reader, std::uint64_t chunk) {
  const Q4Tensor* tensor = reader.TensorOfChunk(chunk);
  if (tensor == nullptr) return {};
  // For a chunk before the part the difference wraps to a huge number, and the comparison fails as it should.
  for (const Q4PartEntry& part : tensor->parts()) {
    if (chunk - part.first_chunk < part.chunk_count) {
      const std::uint64_t number = chunk - part.first_chunk;
      return {tensor, part.part, number * Q4ChunkRawSize(part.part), number + 1 == part.chunk_count};
    }
  }
  return {};
}

// F3.6.
absl::Status CheckValues(const Q4Reader& reader, std::uint64_t chunk, const std::vector<std::uint8_t>& raw) {
  // Embedded files have no rules about their content.
  const PartPlace place = PlaceOf(reader, chunk);
  if (place.tensor == nullptr) return absl::OkStatus();
  if (place.part == Q4Part::kCodes && place.last) {
    return ValidateQ4PaddingNibble(*place.tensor, raw.back(), reader.path());
  }
  // Chunk borders are multiples of 8 MiB, so a chunk holds whole values. Parts without f32 hold always.
  return ValidateQ4Scales(*place.tensor, place.part, raw, place.first_byte / sizeof(float), reader.path());
}

}  // namespace

// Digests and padding come first, so that what is decoded is known to be undamaged.
absl::Status VerifyQ4Chunk(const Q4Reader& reader, std::uint64_t chunk) {
  Q4_RETURN_IF_ERROR(reader.VerifyChunk(chunk));
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> raw, reader.ReadChunk(chunk));
  return CheckValues(reader, chunk, raw);
}

absl::StatusOr<std::vector<std::uint8_t>> ReadVerifiedQ4Chunk(const Q4Reader& reader, std::uint64_t chunk) {
  Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> raw, reader.ReadVerifiedChunk(chunk));
  Q4_RETURN_IF_ERROR(CheckValues(reader, chunk, raw));
  return raw;
}

// In file order, so that a disk reads forwards.
std::uint64_t VerifyQ4Container(const Q4Reader& reader, const std::function<void(const absl::Status&)>& problem) {
  std::uint64_t problems = 0;
  const auto report = [&](const absl::Status& status) {
    if (status.ok()) return;
    ++problems;
    problem(status);
  };
  for (std::uint64_t chunk = 0; chunk < reader.index().chunks.size(); ++chunk) {
    report(VerifyQ4Chunk(reader, chunk));
  }
  report(reader.VerifyTail());
  return problems;
}

absl::Status VerifyQ4Container(const Q4Reader& reader) {
  absl::Status first;
  VerifyQ4Container(reader, [&first](const absl::Status& status) {
    if (first.ok()) first = status;
  });
  return first;
}

}  // namespace q4
