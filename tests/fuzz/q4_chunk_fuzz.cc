// Chunks: stored bytes that nobody vouches for, and what is encoded comes back.
#include <algorithm>
#include <vector>

#include "formats/q4/chunk.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

constexpr std::uint64_t kMostChunkBytes = std::uint64_t{1} << 16;
constexpr std::uint8_t kPlanes[] = {1, 2, 4};

// Both decoders on the same bytes.
void Decode(FuzzInput input, std::uint8_t planes) {
  Q4Chunk chunk;
  chunk.codec = Q4Codec::kZstd;
  chunk.plane_bytes = planes;
  chunk.raw_bytes = static_cast<std::uint32_t>(input.Below(kMostChunkBytes) / planes * planes);
  const auto rest = input.Rest();
  const std::vector<std::uint8_t> stored(rest.begin(), rest.end());
  chunk.stored_bytes = static_cast<std::uint32_t>(stored.size());

  const auto raw = DecodeQ4Chunk(chunk, stored);
  std::vector<std::uint8_t> into(chunk.raw_bytes), scratch(chunk.raw_bytes);
  const absl::Status status = DecodeQ4ChunkInto(chunk, stored, scratch, into);
  Q4_FUZZ_CHECK(raw.ok() == status.ok());
  if (raw.ok()) {
    Q4_FUZZ_CHECK(raw->size() == chunk.raw_bytes);
    Q4_FUZZ_CHECK(*raw == into);
  } else {
    CheckError(raw.status());
  }
}

void RoundTrip(FuzzInput input, std::uint8_t planes) {
  const Q4Compression compression{.zstd = input.Bool(), .level = 1 + static_cast<int>(input.Below(6))};
  const std::size_t size = input.remaining() / planes * planes;
  if (size == 0) return;
  const auto bytes = input.Take(size);
  const std::vector<std::uint8_t> raw(bytes.begin(), bytes.end());
  const auto encoded = EncodeQ4Chunk(Sha256{}, {}, raw, planes, compression);
  Q4_FUZZ_CHECK(encoded.ok());
  Q4_FUZZ_CHECK(encoded->entry.stored_bytes == encoded->stored.size());
  Q4_FUZZ_CHECK(encoded->entry.codec == Q4Codec::kStored || CompressionPays(size, encoded->stored.size()));
  const auto decoded = DecodeQ4Chunk(encoded->entry, encoded->stored);
  Q4_FUZZ_CHECK(decoded.ok() && *decoded == raw);
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(q4_chunk) {
  q4::fuzz::FuzzInput input(data, size);
  const bool decode = input.Bool();
  const std::uint8_t planes = q4::fuzz::kPlanes[input.Below(3)];
  if (decode) {
    q4::fuzz::Decode(input, planes);
  } else {
    q4::fuzz::RoundTrip(input, planes);
  }
  return 0;
}
