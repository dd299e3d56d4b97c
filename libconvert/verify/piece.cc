#include "libconvert/verify/piece.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "kernels/kernels.h"
#include "libconvert/judge/verify_findings.h"

namespace q4 {

absl::Status PieceReader::ReadSource(std::uint64_t first, std::uint64_t count, std::vector<std::uint8_t>* bytes) const {
  const std::uint64_t item = ItemSize(pair_.source->dtype);
  bytes->resize(count * item);
  return source_.Read(*pair_.source, first * item, *bytes);
}

absl::StatusOr<ChunkCache::Bytes> PieceReader::ChunkHolding(Q4Part part, std::uint64_t begin) const {
  return cache_.Get(*pair_.reader, pair_.stored->Part(part)->first_chunk + begin / Q4ChunkRawSize(part));
}

// The floats lie in one chunk: pieces are cut finer than chunks.
absl::StatusOr<std::vector<float>> PieceReader::ReadFloats(Q4Part part, std::uint64_t first,
                                                           std::uint64_t count) const {
  Q4_ASSIGN_OR_RETURN(const ChunkCache::Bytes chunk, ChunkHolding(part, first * sizeof(float)));
  std::vector<float> floats(count);
  std::memcpy(floats.data(), chunk->data() + first * sizeof(float) % Q4ChunkRawSize(part), count * sizeof(float));
  return floats;
}

absl::StatusOr<StoredScales> PieceReader::ReadScales(std::uint64_t first, std::uint64_t count) const {
  const Q4Tensor& stored = *pair_.stored;
  StoredScales scales;
  if (stored.nested) {
    Q4_ASSIGN_OR_RETURN(const ChunkCache::Bytes chunk, ChunkHolding(Q4Part::kScaleCodes, first));
    const std::uint8_t* codes = chunk->data() + first % Q4ChunkRawSize(Q4Part::kScaleCodes);
    scales.scale_codes.assign(codes, codes + count);
    Q4_ASSIGN_OR_RETURN(scales.scales2, ReadFloats(Q4Part::kScales2, first / kScaleGroup, GroupCount(count)));
    scales.decoded.resize(count);
    BestCpuKernels().dequantize_scales(codes, scales.scales2.data(), count, stored.nested_offset,
                                       scales.decoded.data());
  } else {
    Q4_ASSIGN_OR_RETURN(scales.decoded, ReadFloats(Q4Part::kScales, first, count));
  }
  if (!std::all_of(scales.decoded.begin(), scales.decoded.end(), [](float s) { return std::isfinite(s); })) {
    return Fail(kQ4ScaleValue, pair_.reader->path(), TensorPlace(stored.name));
  }
  return scales;
}

}  // namespace q4
