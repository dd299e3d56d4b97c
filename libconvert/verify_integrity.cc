// Chunks are independent, so that they are checked on all threads; what is found is listed in file order. A chunk whose
// digests are wrong is not looked into.
#include "libconvert/verify_integrity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "fmt/format.h"
#include "formats/q4_issues.h"
#include "formats/q4_parts.h"
#include "formats/q4_validate.h"
#include "kernels/kernels.h"
#include "libconvert/parallel.h"
#include "libconvert/verify_issues.h"

namespace q4 {
namespace {

// What a chunk holds. Chunks of embedded files have no tensor.
struct ChunkUse {
  const Q4Tensor* tensor = nullptr;
  Q4Part part = Q4Part::kData;
  std::uint64_t first_byte = 0;  // in the part
  bool is_last = false;          // of the part
};

std::vector<ChunkUse> UsesOfChunks(const Q4Index& index) {
  std::vector<ChunkUse> uses(index.chunks.size());
  for (const Q4Tensor& tensor : index.tensors) {
    for (const Q4PartEntry& part : tensor.parts) {
      for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
        uses[part.first_chunk + i] = {&tensor, part.part, i * Q4ChunkRawSize(part.part), i + 1 == part.chunk_count};
      }
    }
  }
  return uses;
}

// Q5.5 with |map| <= 1: a group whose A + |offset| is finite decodes to finite scales. Only other groups are decoded.
absl::Status CheckDecodedScales(const Q4Reader& reader, const ChunkUse& use, std::span<const std::uint8_t> scales2) {
  const Q4Tensor& tensor = *use.tensor;
  const std::uint64_t chunk_bytes = Q4ChunkRawSize(Q4Part::kScaleCodes);
  for (std::uint64_t i = 0; i < scales2.size() / sizeof(float); ++i) {
    float absmax2;
    std::memcpy(&absmax2, scales2.data() + i * sizeof absmax2, sizeof absmax2);
    if (std::isfinite(absmax2 + std::fabs(tensor.nested_offset))) continue;
    const std::uint64_t first_block = (use.first_byte / sizeof(float) + i) * kScaleGroup;
    const auto codes = reader.ReadChunk(tensor.Part(Q4Part::kScaleCodes)->first_chunk + first_block / chunk_bytes);
    if (!codes.ok()) return absl::OkStatus();  // reported for that chunk
    const std::uint64_t blocks = std::min(kScaleGroup, tensor.blocks() - first_block);
    float scales[kScaleGroup];
    ScalarKernels().dequantize_scales(codes->data() + first_block % chunk_bytes, &absmax2, blocks, tensor.nested_offset,
                                      scales);
    for (std::uint64_t block = 0; block < blocks; ++block) {
      if (std::isfinite(scales[block])) continue;
      return Fail(kQ4ScaleValue, reader.path(), TensorPlace(tensor.name),
                  fmt::format("scale {} decodes to {}", first_block + block, scales[block]));
    }
  }
  return absl::OkStatus();
}

// The rules on the decoded bytes of a chunk of a tensor.
absl::Status CheckContent(const Q4Reader& reader, const ChunkUse& use, std::span<const std::uint8_t> bytes) {
  if (use.part == Q4Part::kCodes) {
    return use.is_last ? ValidateQ4PaddingNibble(*use.tensor, bytes.back(), reader.path()) : absl::OkStatus();
  }
  Q4_RETURN_IF_ERROR(ValidateQ4Scales(*use.tensor, use.part, bytes, use.first_byte / sizeof(float), reader.path()));
  return use.part == Q4Part::kScales2 ? CheckDecodedScales(reader, use, bytes) : absl::OkStatus();
}

bool MustLookInto(const Q4Chunk& chunk, const ChunkUse& use) {
  if (chunk.codec != Q4Codec::kStored) return true;  // a right digest does not prove that it decompresses
  if (use.tensor == nullptr) return false;
  return use.part == Q4Part::kScales || use.part == Q4Part::kScales2 ||
         (use.part == Q4Part::kCodes && use.is_last && use.tensor->elems % 2 != 0);
}

absl::Status CheckChunk(const Q4Reader& reader, std::uint64_t chunk, const ChunkUse& use) {
  Q4_RETURN_IF_ERROR(reader.VerifyChunk(chunk));
  if (!MustLookInto(reader.index().chunks[chunk], use)) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, reader.ReadChunk(chunk));
  return use.tensor == nullptr ? absl::OkStatus() : CheckContent(reader, use, bytes);
}

}  // namespace

absl::Status CheckChunks(const Q4Model& model, unsigned threads, CancelFlag* cancel, const BytesDone& done,
                         FindingList* findings) {
  for (const auto& shard : model.shards()) {
    const Q4Reader& reader = *shard;
    const std::vector<ChunkUse> uses = UsesOfChunks(reader.index());
    Q4_RETURN_IF_ERROR(ParallelInOrder(
        uses.size(), threads,
        [&](std::uint64_t chunk) -> absl::Status {
          if (cancel != nullptr && cancel->load()) return Fail(kVerifyInterrupted, reader.path(), {});
          return CheckChunk(reader, chunk, uses[chunk]);
        },
        [&](std::uint64_t chunk, const absl::Status& status) -> absl::Status {
          if (!status.ok()) {
            if (!IsDamage(status)) return status;
            findings->Add(uses[chunk].tensor != nullptr ? uses[chunk].tensor->name : "", status);
          }
          done(reader.index().chunks[chunk].stored_bytes);
          return absl::OkStatus();
        }));
    const absl::Status tail = reader.VerifyTail();
    if (!tail.ok() && !IsDamage(tail)) return tail;
    if (!tail.ok()) findings->Add("", tail);
  }
  return absl::OkStatus();
}

std::string ContradictionIn(const Q4Tensor& tensor) {
  const Q4Stats& s = tensor.stats;
  const double n = static_cast<double>(s.count);
  std::uint64_t hist_sum = 0;
  for (std::uint64_t count : s.hist) hist_sum += count;
  // Relations between rounded sums hold up to their rounding: 2^48 additions cost less than this.
  constexpr double kSlack = 1 + 1e-6;

  if (s.count != tensor.elems) return "count: " + GotExpected(fmt::to_string(s.count), fmt::to_string(tensor.elems));
  if (hist_sum != tensor.elems)
    return "histogram: " + GotExpected(fmt::to_string(hist_sum), fmt::to_string(tensor.elems));
  if (s.zero_blocks > tensor.blocks() || s.tiny_blocks > tensor.blocks() - s.zero_blocks) {
    return "more zero and tiny blocks than blocks";
  }
  if (s.clipped > s.count || s.overflow > s.count) return "more clipped or overflowed elements than elements";
  for (double value :
       {s.sum_e, s.sum_abs_e, s.sum_e2, s.sum_x2, s.sum_xy, s.max_abs_err, s.max_gap_ratio, s.worst_block_e2}) {
    if (!std::isfinite(value)) return "a value is not finite";
  }
  for (double value : {s.sum_abs_e, s.sum_e2, s.sum_x2, s.max_abs_err, s.max_gap_ratio, s.worst_block_e2}) {
    if (value < 0) return "a magnitude is negative";
  }
  if (std::fabs(s.sum_e) > s.sum_abs_e * kSlack) return "sum of errors exceeds the sum of their magnitudes";
  if (s.max_abs_err > s.sum_abs_e * kSlack) return "largest error exceeds the sum of all";
  if (s.sum_abs_e > n * s.max_abs_err * kSlack) return "sum of errors exceeds what the largest allows";
  if (s.sum_e2 > s.sum_abs_e * s.max_abs_err * kSlack) return "sum of squares exceeds what the errors allow";
  if (s.worst_block_e2 > s.sum_e2 * kSlack) return "worst block exceeds the sum over all";
  if (s.max_abs_err_index != 0 && s.max_abs_err_index >= tensor.elems)
    return "position of the largest error is outside";
  if (s.worst_block != 0 && s.worst_block >= tensor.blocks()) return "worst block is outside";
  return {};
}

std::string BoundBrokenBy(const Q4Tensor& tensor, const Q4Stats& stats) {
  if (tensor.encoder != Q4Encoder::kAbsmax || tensor.nested) return {};
  constexpr double kLargestRatio = 1 + 1e-5;
  if (stats.clipped != 0) return fmt::format("{} clipped elements, expected none", stats.clipped);
  if (!(stats.max_gap_ratio <= kLargestRatio)) {
    return "error in half steps: " + GotExpected(fmt::to_string(stats.max_gap_ratio), "at most 1");
  }
  return {};
}

}  // namespace q4
