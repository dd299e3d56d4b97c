// Chunks are independent, so that they are checked on all threads; what is found is listed in file order. A chunk whose
// digests are wrong is not looked into: its content would only give findings that follow from the first one.
//
// Digests prove that a chunk is what the writer wrote, and not that the writer wrote something sensible. For what they
// leave open (decompression, scales, padding nibbles, and whether codes and statistics agree) the content is looked at;
// kept tensors are only digested.
#include "libconvert/verify/integrity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "fmt/format.h"
#include "formats/q4/encoders.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/validate.h"
#include "libconvert/base/chunk_cache.h"
#include "libconvert/base/parallel.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/decoder.h"
#include "libconvert/model/scale_spread.h"
#include "libconvert/model/stored_tensor.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {
namespace {

// What a chunk holds. Chunks of embedded files have no tensor, and no rule but their digests.
struct ChunkUse {
  const Q4Tensor* tensor = nullptr;
  // The tensor's index in VerifyReport::tensors.
  std::size_t report = 0;
  Q4Part part = Q4Part::kData;
  // Where the chunk begins in the part, in raw bytes.
  std::uint64_t first_byte = 0;
  // Of the part; padding nibbles stand there.
  bool is_last = false;
};

// What each chunk of a shard holds, by its number. The index lists chunks by tensor; here they are taken in file order.
std::vector<ChunkUse> UsesOfChunks(const Q4Model& model, std::size_t shard) {
  const Q4Index& index = model.shards()[shard]->index();
  std::vector<ChunkUse> uses(index.chunks.size());
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    if (model.tensors()[i].shard != shard) continue;
    const Q4Tensor& tensor = model.tensor(model.tensors()[i]);
    for (const Q4PartEntry& part : tensor.parts()) {
      for (std::uint64_t c = 0; c < part.chunk_count; ++c) {
        uses[part.first_chunk + c] = {&tensor, i, part.part, c * Q4ChunkRawSize(part.part), c + 1 == part.chunk_count};
      }
    }
  }
  return uses;
}

struct ChunkResult {
  absl::Status status;
  // The scales that the chunk holds or, of scale codes, decodes to.
  ScaleSpread scales;
  // Of a chunk of codes.
  CodeFacts facts;
};

// Checks one chunk of one shard. Made anew for each.
class ChunkCheck {
 public:
  ChunkCheck(const KernelTable& kernels, const Q4Reader& reader, const ChunkUse& use, ChunkCache* cache)
      : kernels_(kernels), reader_(reader), use_(use), cache_(cache) {}

  ChunkResult Run(std::uint64_t chunk) {
    ChunkResult result;
    result.status = Check(chunk, &result);
    return result;
  }

 private:
  absl::Status Check(std::uint64_t chunk, ChunkResult* result) {
    if (!MustLookInto(reader_.index().chunks[chunk])) return reader_.VerifyChunk(chunk);
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, reader_.ReadVerifiedChunk(chunk));
    return use_.tensor == nullptr ? absl::OkStatus() : CheckContent(bytes, result);
  }

  // Whether the digests leave a question open. All other chunks are digested 256 KiB at a time, without memory for the
  // whole.
  bool MustLookInto(const Q4Chunk& chunk) const {
    if (chunk.codec != Q4Codec::kStored) return true;  // a right digest does not prove that it decompresses
    if (use_.tensor == nullptr || use_.part == Q4Part::kData) return false;
    return true;
  }

  // The rules on the decoded bytes of a chunk of a tensor.
  absl::Status CheckContent(std::span<const std::uint8_t> bytes, ChunkResult* result) const {
    const Q4Tensor& tensor = *use_.tensor;
    switch (use_.part) {
      case Q4Part::kCodes:
        if (use_.is_last) {
          Q4_RETURN_IF_ERROR(ValidateQ4PaddingNibble(tensor, bytes.back(), reader_.path()));
        }
        LookAtCodes(bytes, &result->facts);
        return absl::OkStatus();
      case Q4Part::kScaleCodes:
        return CheckDecodedScales(bytes, &result->scales);
      // Both are fp32 and must be finite and of the right sign.
      case Q4Part::kScales:
      case Q4Part::kScales2: {
        // Only fp32 scales count for the spread: it is about decoded ones, which group scales are not.
        Q4_RETURN_IF_ERROR(ValidateQ4Scales(tensor, use_.part, bytes, use_.first_byte / sizeof(float), reader_.path()));
        if (use_.part == Q4Part::kScales) {
          std::vector<float> floats(bytes.size() / sizeof(float));
          std::memcpy(floats.data(), bytes.data(), bytes.size());
          AddScales(floats, &result->scales);
        }
        return absl::OkStatus();
      }
      case Q4Part::kData:
        break;
    }
    return absl::OkStatus();
  }

  // What the codes say with their scales. Scales lie in other chunks: what is wrong with those is found there, and then
  // nothing is said here.
  void LookAtCodes(std::span<const std::uint8_t> codes, CodeFacts* facts) const {
    const Q4Tensor& tensor = *use_.tensor;
    const std::uint64_t first_elem = use_.first_byte * 2;
    const std::uint64_t elems = std::min<std::uint64_t>(codes.size() * 2, tensor.elems - first_elem);
    const std::uint64_t first_block = first_elem / tensor.block_size;
    const ContainerPartReader parts(reader_, tensor, cache_);
    const absl::StatusOr<BlockScales> scales =
        TensorDecoder(kernels_, tensor, parts).ReadScales(first_block, BlockCount(elems, tensor.block_size));
    if (!scales.ok() ||
        !std::all_of(scales->decoded.begin(), scales->decoded.end(), [](float s) { return std::isfinite(s); })) {
      return;
    }
    *facts = FactsOf(tensor, first_block, codes, *scales);
  }

  // Checks that these scale codes decode to finite scales (Q5.5), and counts these. Group scale, offset and map are
  // each finite, but their combination may overflow fp32.
  absl::Status CheckDecodedScales(std::span<const std::uint8_t> codes, ScaleSpread* spread) const {
    const Q4Tensor& tensor = *use_.tensor;
    const std::uint64_t first_block = use_.first_byte;  // a chunk of scale codes is a whole number of groups
    // Group scales lie in another chunk, which may be damaged by itself.
    const absl::StatusOr<PartBytes> groups = ContainerPartReader(reader_, tensor, cache_)
                                                 .Read(Q4Part::kScales2, first_block / kScaleGroup * sizeof(float),
                                                       GroupCount(codes.size()) * sizeof(float));
    if (!groups.ok()) return absl::OkStatus();  // reported for the chunk that they lie in
    const StoredScales stored{true, nullptr, codes.data(), groups->floats().data(), tensor.nested_offset};
    std::vector<float> scales;
    DecodedScales(kernels_, stored, codes.size(), &scales);
    for (std::uint64_t block = 0; block < scales.size(); ++block) {
      if (std::isfinite(scales[block])) continue;
      // A group scale that is itself not finite is reported for its own chunk.
      if (!std::isfinite(groups->floats()[block / kScaleGroup])) return absl::OkStatus();
      return Fail(kQ4ScaleValue, reader_.path(), TensorPlace(tensor.name),
                  fmt::format("scale {} decodes to {}", first_block + block, scales[block]));
    }
    AddScales(scales, spread);
    return absl::OkStatus();
  }

  const KernelTable& kernels_;
  const Q4Reader& reader_;
  const ChunkUse& use_;
  ChunkCache* cache_;
};

}  // namespace

absl::Status CheckChunks(const Q4Model& model, const VerifyContext& context, const BytesDone& done,
                         std::vector<CodeFacts>* facts) {
  facts->assign(model.tensors().size(), {});
  // Of group scales: a chunk of them serves 64 chunks of scale codes, and would be decompressed again for each.
  ChunkCache cache;
  for (std::size_t shard = 0; shard < model.shards().size(); ++shard) {
    const Q4Reader& reader = *model.shards()[shard];
    const std::vector<ChunkUse> uses = UsesOfChunks(model, shard);
    Q4_RETURN_IF_ERROR(ParallelInOrder(
        uses.size(), context.threads,
        [&](std::uint64_t chunk) {
          if (context.cancelled()) return ChunkResult{Fail(kVerifyInterrupted, reader.path(), {}), {}, {}};
          const ScopedFloatEnvironment environment;
          return ChunkCheck(*context.kernels, reader, uses[chunk], &cache).Run(chunk);
        },
        [&](std::uint64_t chunk, const ChunkResult& result) -> absl::Status {
          const ChunkUse& use = uses[chunk];
          // Damage is a finding and the check goes on; a file that cannot be read ends it.
          if (!result.status.ok()) {
            if (!IsDamage(result.status)) return result.status;
            context.findings->Add(use.tensor != nullptr ? use.tensor->name : "", result.status);
          }
          if (use.tensor != nullptr) {
            AddSpread(result.scales, &context.report->tensors[use.report].scales);
            (*facts)[use.report].Add(result.facts);
          }
          done(reader.index().chunks[chunk].stored_bytes);
          return absl::OkStatus();
        }));
    // The bytes between the last chunk and the index belong to no chunk. With them every byte of the file is covered.
    const absl::Status tail = reader.VerifyTail();
    if (!tail.ok() && !IsDamage(tail)) return tail;
    if (!tail.ok()) context.findings->Add("", tail);
  }
  return absl::OkStatus();
}

std::string ContradictionIn(const Q4Tensor& tensor) {
  const Q4Stats& s = *tensor.stats;
  const double n = static_cast<double>(s.count);
  std::uint64_t hist_sum = 0;
  for (std::uint64_t count : s.hist) hist_sum += count;
  // Relations between rounded sums hold up to their rounding: 2^48 additions cost less than this.
  constexpr double kSlack = 1 + 1e-6;

  // Counts: every element has one code, every block is of one kind at most.
  if (s.count != tensor.elems) return "count: " + GotExpected(fmt::to_string(s.count), fmt::to_string(tensor.elems));
  if (hist_sum != tensor.elems)
    return "histogram: " + GotExpected(fmt::to_string(hist_sum), fmt::to_string(tensor.elems));
  // Subtracted, not added: untrusted counts could overflow.
  if (s.zero_blocks > tensor.blocks() || s.tiny_blocks > tensor.blocks() - s.zero_blocks) {
    return "more zero and tiny blocks than blocks";
  }
  if (s.clipped > s.count || s.overflow > s.count) return "more clipped or overflowed elements than elements";
  // Before any relation: comparisons with a NaN are false, and would pass as true relations.
  for (double value :
       {s.sum_e, s.sum_abs_e, s.sum_e2, s.sum_x2, s.sum_xy, s.max_abs_err, s.max_gap_ratio, s.worst_block_e2}) {
    if (!std::isfinite(value)) return "a value is not finite";
  }
  for (double value : {s.sum_abs_e, s.sum_e2, s.sum_x2, s.max_abs_err, s.max_gap_ratio, s.worst_block_e2}) {
    if (value < 0) return "a magnitude is negative";
  }
  // Sums: |sum e| <= sum |e| <= n max |e|, and sum e^2 <= max |e| sum |e|.
  if (std::fabs(s.sum_e) > s.sum_abs_e * kSlack) return "sum of errors exceeds the sum of their magnitudes";
  if (s.max_abs_err > s.sum_abs_e * kSlack) return "largest error exceeds the sum of all";
  if (s.sum_abs_e > n * s.max_abs_err * kSlack) return "sum of errors exceeds what the largest allows";
  if (s.sum_e2 > s.sum_abs_e * s.max_abs_err * kSlack) return "sum of squares exceeds what the errors allow";
  if (s.worst_block_e2 > s.sum_e2 * kSlack) return "worst block exceeds the sum over all";
  // An index of 0 also stands for "no error at all", in a tensor without elements too.
  if (s.max_abs_err_index != 0 && s.max_abs_err_index >= tensor.elems)
    return "position of the largest error is outside";
  if (s.worst_block != 0 && s.worst_block >= tensor.blocks()) return "worst block is outside";
  return {};
}

std::string BoundBrokenBy(const Q4Tensor& tensor, const Q4Stats& stats) {
  // The bound is about scales that no element exceeds. An encoder that searches may cut a block's extremes off.
  if (!FindQ4Encoder(tensor.encoder)->absmax_scales || tensor.nested) return {};
  // Q8.8: 1 exactly in real numbers; 1 + 9e-7 was the largest ratio ever measured, from rounding.
  constexpr double kLargestRatio = 1 + 1e-5;
  if (stats.clipped != 0) return fmt::format("{} clipped elements, expected none", stats.clipped);
  // Written so that a NaN breaks the bound.
  if (!(stats.max_gap_ratio <= kLargestRatio)) {
    return "error in half steps: " + GotExpected(fmt::to_string(stats.max_gap_ratio), "at most 1");
  }
  return {};
}

}  // namespace q4
