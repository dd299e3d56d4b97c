// The index of a container. What decoder and validator accept has one reading only: encoding it again gives the same
// bytes.
#include <algorithm>
#include <vector>

#include "formats/base/checked_math.h"
#include "formats/q4/index.h"
#include "formats/q4/parts.h"
#include "formats/q4/validate.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

// Where an index of these chunks has to lie; anything where there is no such place.
std::uint64_t IndexOffset(const Q4Index& index) {
  if (index.chunks.empty()) return kQ4HeaderBytes;
  const Q4Chunk& last = index.chunks.back();
  std::uint64_t end = 0;
  std::uint64_t offset = 0;
  return CheckedAdd(last.offset, last.stored_bytes, &end) && CheckedAlignUp(end, kQ4SegmentAlignment, &offset) ? offset
                                                                                                               : 0;
}

void CheckAccepted(const Q4Index& index, const Q4ChunkOwners& owners, std::span<const std::uint8_t> bytes) {
  Q4_FUZZ_CHECK(owners.size() == index.chunks.size());
  std::uint64_t chunks = 0;
  for (const Q4EmbeddedFile& file : index.files) chunks += file.chunk_count;
  for (const Q4Tensor& tensor : index.tensors) chunks += Q4ChunkCountOf(tensor);
  Q4_FUZZ_CHECK(chunks == index.chunks.size());
  std::uint64_t end = kQ4HeaderBytes;
  for (const Q4Chunk& chunk : index.chunks) {
    Q4_FUZZ_CHECK(chunk.offset >= end && chunk.raw_bytes <= kQ4ChunkBytes && chunk.stored_bytes <= chunk.raw_bytes);
    end = chunk.offset + chunk.stored_bytes;
  }
  // Sections that this version does not know are skipped, and so not written again.
  if (bytes[0] != kQ4SectionCount) return;
  Q4_FUZZ_CHECK(Q4IndexBytes(index, index.chunks.size(), index.provenance.size()) == bytes.size());
  const std::vector<std::uint8_t> again = EncodeQ4Index(index);
  Q4_FUZZ_CHECK(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(q4_index) {
  using namespace q4;
  const std::span<const std::uint8_t> bytes(data, size);
  const auto index = DecodeQ4Index(Q4Header(), std::vector<std::uint8_t>(data, data + size), "f.q4");
  if (!index.ok()) {
    fuzz::CheckError(index.status());
    return 0;
  }
  const auto owners = ValidateQ4Index(*index, fuzz::IndexOffset(*index), "f.q4");
  if (owners.ok()) {
    fuzz::CheckAccepted(*index, *owners, bytes);
  } else {
    fuzz::CheckError(owners.status());
  }
  return 0;
}
