// A slab is one chunk of codes, or of the data of a kept tensor. It is taken in pieces that fit a core's cache, so that
// the source is fetched from memory once for quantizing, comparing and statistics. Pieces are whole groups of 256
// blocks (Q7.5), so that their sums are those of the converter, whatever sizes it worked with.
//
// Of each piece: read the source, choose scales and codes again, compare codes, read the stored scales, compare them,
// take the error statistics of what is stored. Statistics belong to the container as it is, not to what it should be:
// the recorded ones are compared with them.
#include "libconvert/verify/slab.h"

#include <algorithm>
#include <cstring>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/bnb/taken_over.h"
#include "formats/q4/encoders.h"
#include "formats/q4/parts.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/scheme/slab.h"
#include "libconvert/source/source_reader.h"
#include "libconvert/verify/nearest_codes.h"

namespace q4 {
namespace {

// Elements of a quantized piece: 512 KiB of fp32 and as much for what is computed from it. Bytes of a kept piece, which
// only has to be compared.
constexpr std::uint64_t kPieceElems = std::uint64_t{1} << 17;
constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;

// Counts unequal items of two arrays. `describe(i)` puts the first of them into words. Equal arrays, nearly all that
// are ever compared, cost one memcmp; items are compared as bits, so that -0 differs from 0 and a NaN equals itself.
template <typename T, typename Describe>
Difference CompareArrays(const T* got, const T* expected, std::uint64_t count, const Describe& describe) {
  Difference difference;
  if (count == 0 || std::memcmp(got, expected, count * sizeof(T)) == 0) return difference;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (std::memcmp(got + i, expected + i, sizeof(T)) == 0) continue;
    if (difference.count++ == 0) difference.first = describe(i);
  }
  return difference;
}

// Floats are shown to the last digit, since they are compared to the last bit.
Difference CompareFloats(const char* what, std::uint64_t first, std::span<const float> got, const float* expected) {
  return CompareArrays(got.data(), expected, got.size(), [&](std::uint64_t i) {
    return fmt::format("{} {}: {}", what, first + i, GotExpected(fmt::to_string(got[i]), fmt::to_string(expected[i])));
  });
}

// Two codes lie in a byte, so the elements are compared one by one, but only if some byte differs.
Difference CompareCodes(std::uint64_t first_elem, std::uint64_t elems, const std::uint8_t* got,
                        const std::uint8_t* expected) {
  Difference difference;
  if (std::memcmp(got, expected, PackedBytes(elems)) == 0) return difference;
  // Up to `elems`, so that the padding nibble of an odd count is left out: it has a check of its own
  // (ValidateQ4PaddingNibble).
  for (std::uint64_t i = 0; i < elems; ++i) {
    const int shift = i % 2 == 0 ? 4 : 0;
    const int got_code = got[i / 2] >> shift & 15, expected_code = expected[i / 2] >> shift & 15;
    if (got_code == expected_code) continue;
    if (difference.count++ == 0) {
      difference.first = fmt::format("element {}: {}", first_elem + i,
                                     GotExpected(std::to_string(got_code), std::to_string(expected_code)));
    }
  }
  return difference;
}

// Compares one slab and is then done. Buffers are members so that all pieces of the slab share them.
class SlabComparer {
 public:
  SlabComparer(const TensorPair& pair, const PieceTools& tools, float absmax_offset)
      : kernels_(tools.kernels),
        reader_(*pair.reader),
        stored_(*pair.stored),
        source_tensor_(*pair.source),
        source_(tools.source),
        pieces_(pair, tools),
        recompute_(CanRecompute(pair)),
        tools_(tools),
        pair_(pair),
        absmax_offset_(absmax_offset),
        effort_(tools.effort),
        compare_absmax_(tools.compare_absmax) {}

  SlabResult SumScalesOf(std::uint64_t slab) {
    result_.status = SumPieces(slab);
    return std::move(result_);
  }

  SlabResult Run(std::uint64_t slab) {
    result_.status = !stored_.quantized() ? CompareRaw(slab) : CompareQuantized(slab);
    result_.source_digest = source_digest_.Digest();
    result_.stored_digest = stored_digest_.Digest();
    return std::move(result_);
  }

 private:
  absl::Status ReadSource(std::uint64_t first_elem, std::uint64_t elems) {
    Q4_RETURN_IF_ERROR(pieces_.ReadSource(first_elem, elems, &source_bytes_));
    result_.elems += elems;
    result_.source_bytes += source_bytes_.size();
    source_digest_.Update(source_bytes_);
    return absl::OkStatus();
  }

  // A slab of a tensor that is kept: the elements themselves, or what --keep-dtype makes of them.
  absl::Status CompareRaw(std::uint64_t slab) {
    const std::optional<Q4PartEntry> part = stored_.Part(Q4Part::kData);
    // An empty tensor has no chunks.
    if (!part || part->chunk_count == 0) return absl::OkStatus();
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> chunk, reader_.ReadChunk(part->first_chunk + slab));
    const std::uint64_t item = ItemSize(stored_.dtype);
    // Counted in elements, which are the same on both sides although their sizes in bytes may differ.
    const std::uint64_t chunk_first = slab * (Q4ChunkRawSize(Q4Part::kData) / item);
    const std::uint64_t elems = chunk.size() / item;
    for (std::uint64_t begin = 0; begin < elems; begin += kPieceBytes / item) {
      const std::uint64_t n = std::min(kPieceBytes / item, elems - begin);
      Q4_RETURN_IF_ERROR(ReadSource(chunk_first + begin, n));
      const std::span<const std::uint8_t> stored{chunk.data() + begin * item, n * item};
      stored_digest_.Update(stored);
      result_.data.Append(CompareRawPiece(chunk_first + begin, stored));
    }
    return absl::OkStatus();
  }

  Difference CompareRawPiece(std::uint64_t first_elem, std::span<const std::uint8_t> got) {
    const std::uint64_t item = ItemSize(stored_.dtype);
    const std::uint8_t* expected = source_bytes_.data();
    std::vector<std::uint8_t> converted;
    // The conversion was asked for another dtype of kept tensors (--keep-dtype); PairTensors() saw that it is that one.
    if (stored_.dtype != source_tensor_.dtype) {
      converted.resize(got.size());
      kernels_.convert(FloatTypeOf(source_tensor_.dtype), source_bytes_.data(), got.size() / item,
                       FloatTypeOf(stored_.dtype), converted.data());
      expected = converted.data();
    }
    Difference difference;
    if (std::memcmp(got.data(), expected, got.size()) == 0) return difference;
    for (std::uint64_t i = 0; i < got.size() / item; ++i) {
      if (std::memcmp(got.data() + i * item, expected + i * item, item) == 0) continue;
      if (difference.count++ == 0) {
        // In hexadecimal, most significant byte first: kept tensors are of any dtype, and the bits are what differs.
        const auto words = [&](const std::uint8_t* bytes) {
          std::string hex;
          for (std::uint64_t byte = item; byte-- > 0;) hex += fmt::format("{:02x}", bytes[byte]);
          return "0x" + hex;
        };
        difference.first = fmt::format("element {}: {}", first_elem + i,
                                       GotExpected(words(got.data() + i * item), words(expected + i * item)));
      }
    }
    return difference;
  }

  // Elements. Both are powers of two, so that the larger one is whole groups. With blocks of 4096 a group has 2^20.
  std::uint64_t QuantizedPiece() const { return std::max(kPieceElems, kScaleGroup * stored_.block_size); }

  // An element that is not finite ends it: CompareSlab() reports that.
  absl::Status SumPieces(std::uint64_t slab) {
    const std::uint64_t slab_elems = SlabElems(stored_, slab), piece = QuantizedPiece();
    for (std::uint64_t begin = 0; begin < slab_elems; begin += piece) {
      const std::uint64_t n = std::min(piece, slab_elems - begin);
      Q4_RETURN_IF_ERROR(ReadSource(slab * kQ4ChunkElems + begin, n));
      expected_scales_.resize(BlockCount(n, stored_.block_size));
      if (EncoderOf(Q4Encoder::kAbsmax)
              .ChooseScales(kernels_, SlabShapeOf(stored_, n), source_bytes_.data(), expected_scales_.data()) !=
          kAllFinite) {
        break;
      }
      SumScales(expected_scales_.size());
    }
    return absl::OkStatus();
  }

  // Bytes of a part of the source that is taken over: `count` values of type T from number `first` on.
  template <typename T>
  absl::StatusOr<std::vector<T>> ReadPart(std::size_t part, std::uint64_t first, std::uint64_t count) {
    const SourceTensor& from = source_tensor_.bnb->parts[part];
    std::vector<T> values(count);
    const std::span<std::uint8_t> bytes(reinterpret_cast<std::uint8_t*>(values.data()), count * sizeof(T));
    const std::uint64_t item = ItemSize(from.dtype);
    Q4_RETURN_IF_ERROR(source_.Read(from, first * sizeof(T) / item, bytes));
    source_digest_.Update(bytes);
    result_.source_bytes += bytes.size();
    return values;
  }

  // A slab of a weight that is taken over: codes and scales are the source's, byte for byte.
  absl::Status CompareTakenOver(std::uint64_t slab) {
    const std::uint64_t first = slab * kQ4ChunkElems, n = SlabElems(stored_, slab);
    const std::uint64_t first_block = first / stored_.block_size, blocks = BlockCount(n, stored_.block_size);
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> codes,
                        reader_.ReadChunk(stored_.Part(Q4Part::kCodes)->first_chunk + slab));
    Q4_ASSIGN_OR_RETURN(const auto expected_codes, ReadPart<std::uint8_t>(0, first / 2, codes.size()));
    // With the padding behind an odd number of elements, which is nobody's element but part of the file.
    result_.codes = CompareCodes(first, 2 * codes.size(), codes.data(), expected_codes.data());
    Q4_ASSIGN_OR_RETURN(const BlockScales scales, pieces_.ReadScales(first_block, blocks));
    if (stored_.nested) {
      Q4_ASSIGN_OR_RETURN(const auto scale_codes, ReadPart<std::uint8_t>(1, first_block, blocks));
      Q4_ASSIGN_OR_RETURN(const auto groups, ReadPart<float>(2, first_block / kScaleGroup, GroupCount(blocks)));
      CompareNested(first_block, scales, scale_codes, groups);
    } else {
      Q4_ASSIGN_OR_RETURN(const auto expected, ReadPart<float>(1, first_block, blocks));
      result_.scales = CompareFloats("block", first_block, scales.decoded, expected.data());
    }
    stored_digest_.Update(codes);
    stored_digest_.Update({reinterpret_cast<const std::uint8_t*>(scales.decoded.data()), blocks * sizeof(float)});
    result_.elems += n;
    return absl::OkStatus();
  }

  absl::Status CompareQuantized(std::uint64_t slab) {
    if (source_tensor_.bnb != nullptr) return CompareTakenOver(slab);
    Q4_ASSIGN_OR_RETURN(weights_, tools_.weights->Of(pair_));
    if (recompute_ && CodesNeedWholeTensor(stored_.encoder)) {
      Q4_ASSIGN_OR_RETURN(whole_codes_, tools_.whole_codes->Of(pair_, tools_));
    }
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> codes,
                        reader_.ReadChunk(stored_.Part(Q4Part::kCodes)->first_chunk + slab));
    const std::uint64_t slab_first = slab * kQ4ChunkElems;
    const std::uint64_t slab_elems = SlabElems(stored_, slab);
    const std::uint64_t piece = QuantizedPiece();
    for (std::uint64_t begin = 0; begin < slab_elems; begin += piece) {
      const std::uint64_t n = std::min(piece, slab_elems - begin);
      Q4_RETURN_IF_ERROR(ComparePiece(slab_first + begin, n, codes.data() + begin / 2));
      // The tensor fails for this element; the converter would have refused it, so there is nothing to compare the rest
      // with.
      if (result_.nonfinite != kAllFinite) break;
    }
    return absl::OkStatus();
  }

  absl::Status ComparePiece(std::uint64_t first_elem, std::uint64_t n, const std::uint8_t* codes) {
    Q4_RETURN_IF_ERROR(ReadSource(first_elem, n));
    const std::uint64_t first_block = first_elem / stored_.block_size;
    const std::uint64_t blocks = BlockCount(n, stored_.block_size);
    // Of what cannot be computed again, absmax is the measure.
    const Q4Encoder encoder = recompute_ ? stored_.encoder : Q4Encoder::kAbsmax;
    if (!EncodeAgain(EncoderOf(encoder), first_elem, n)) return absl::OkStatus();
    // Codes follow from the source, whether scales are nested or not, so that no stored scale is needed yet.
    if (recompute_) {
      const bool is_whole = whole_codes_ != nullptr && !whole_codes_->empty();
      const std::uint8_t* const expected = is_whole ? whole_codes_->data() + first_elem / 2 : expected_codes_.data();
      result_.codes.Append(CompareCodes(first_elem, n, codes, expected));
    }
    Q4_ASSIGN_OR_RETURN(const BlockScales scales, pieces_.ReadScales(first_block, blocks));
    if (recompute_) CompareScales(first_block, blocks, scales);
    // Decoded scales, not stored ones: two tensors that decode alike are equal, though one has nested scales.
    stored_digest_.Update({codes, PackedBytes(n)});
    stored_digest_.Update({reinterpret_cast<const std::uint8_t*>(scales.decoded.data()), blocks * sizeof(float)});
    PieceStats& piece = result_.pieces.emplace_back();
    piece.first_elem = first_elem;
    piece.elems = n;
    piece.stats = StatsUnder(codes, scales.decoded, n, &piece.groups);
    if (FindQ4Encoder(stored_.encoder)->absmax_scales) {
      // Where these codes and scales are not absmax', the tensor fails and nobody asks.
      if (compare_absmax_) AddAbsmaxGroups(piece.groups);
    } else if (!recompute_ || compare_absmax_) {
      MeasureAbsmax(encoder, n);
    }
    if (!recompute_ && ProofOf(stored_.encoder).nearest) {
      const NearestCodes check(kernels_, stored_, first_elem, source_bytes_, codes);
      if (!check.AllUnder(scales.decoded, expected_scales_, piece.stats) &&
          !check.AllUnder(expected_scales_, expected_scales_, StatsUnder(codes, expected_scales_, n, &groups_))) {
        result_.not_nearest.Append(check.NotNearest(scales.decoded));
      }
    }
    return absl::OkStatus();
  }

  // The statistics of the piece in source_bytes_ with these codes and decoded scales.
  SlabStats StatsUnder(const std::uint8_t* codes, std::span<const float> scales, std::uint64_t n,
                       std::vector<GroupSums>* groups) const {
    SlabStats stats;
    groups->resize(GroupCount(scales.size()));
    kernels_.error_stats(FloatTypeOf(stored_.dtype), CodeBookOf(stored_.scheme), source_bytes_.data(), codes,
                         scales.data(), n, stored_.block_size, groups->data(), &stats);
    return stats;
  }

  // The squared errors of the piece as absmax codes it. expected_ members are what `made_by` makes of it, and absmax'
  // afterwards. REQUIRES: EncodeAgain().
  void MeasureAbsmax(Q4Encoder made_by, std::uint64_t n) {
    if (!FindQ4Encoder(made_by)->absmax_scales) {
      EncoderOf(Q4Encoder::kAbsmax)
          .ChooseCodes(kernels_, SlabShapeOf(stored_, n), source_bytes_.data(), expected_scales_.data(),
                       expected_codes_.data());
    }
    std::vector<float> decoded = expected_scales_;
    if (stored_.nested) {
      std::vector<std::uint8_t> scale_codes(decoded.size());
      std::vector<float> groups(GroupCount(decoded.size()));
      kernels_.quantize_scales(expected_scales_.data(), decoded.size(), absmax_offset_, scale_codes.data(),
                               groups.data());
      kernels_.dequantize_scales(scale_codes.data(), groups.data(), decoded.size(), absmax_offset_, decoded.data());
    }
    StatsUnder(expected_codes_.data(), decoded, n, &groups_);
    AddAbsmaxGroups(groups_);
  }

  void AddAbsmaxGroups(std::span<const GroupSums> groups) {
    for (const GroupSums& group : groups) result_.absmax_groups.push_back(group.e2);
  }

  // Puts what the encoder makes of the piece in source_bytes_ into the expected_ members. False if an element is not
  // finite, which ends the slab.
  bool EncodeAgain(const Encoder& encoder, std::uint64_t first_elem, std::uint64_t n) {
    const std::uint64_t blocks = BlockCount(n, stored_.block_size);
    SlabShape shape = SlabShapeOf(stored_, n, effort_);
    shape.first = first_elem;
    shape.weights = weights_.get();
    expected_codes_.resize(PackedBytes(n));
    expected_scales_.resize(blocks);
    const bool nests = stored_.nested && encoder.searching() != nullptr;
    const std::uint64_t nonfinite = nests ? NestAgain(*encoder.searching(), shape)
                                          : encoder.ChooseCodes(kernels_, shape, source_bytes_.data(),
                                                                expected_scales_.data(), expected_codes_.data());
    if (nonfinite != kAllFinite) {
      result_.nonfinite = first_elem + nonfinite;
      return false;
    }
    SumScales(blocks);
    return true;
  }

  // Nested scales of an encoder that searches, and the codes under them as they decode.
  std::uint64_t NestAgain(const SearchingEncoder& encoder, const SlabShape& shape) {
    const std::uint64_t blocks = expected_scales_.size();
    expected_scale_codes_.resize(blocks);
    expected_group_scales_.resize(GroupCount(blocks));
    losses_.resize(expected_group_scales_.size());
    const std::uint64_t bad = encoder.ChooseNested(
        kernels_, shape, source_bytes_.data(),
        {expected_scales_.data(), expected_scale_codes_.data(), expected_group_scales_.data(), losses_.data()});
    if (bad != kAllFinite) return bad;
    std::vector<float> decoded(blocks);
    kernels_.dequantize_scales(expected_scale_codes_.data(), expected_group_scales_.data(), blocks, 0, decoded.data());
    SearchingEncoder::CodesUnder(kernels_, shape, source_bytes_.data(), decoded.data(), expected_codes_.data());
    return kAllFinite;
  }

  // Sums expected_scales_ by groups, which the caller adds in order: slabs are compared in any order (Q7.3).
  void SumScales(std::uint64_t blocks) {
    for (std::uint64_t block = 0; block < blocks; block += kScaleGroup) {
      Sum256 group;
      group.Add({expected_scales_.data() + block, std::min(kScaleGroup, blocks - block)});
      result_.scale_sums.push_back(group.total());
    }
  }

  // Stored scales against those of the source: fp32 ones directly, nested ones after quantizing the expected scales too
  // (Q5.3, Q5.4). That uses the recorded offset. If it is wrong, nearly all scale codes differ, and the caller reports
  // the offset first.
  void CompareScales(std::uint64_t first_block, std::uint64_t blocks, const BlockScales& scales) {
    if (!stored_.nested) {
      result_.scales.Append(CompareFloats("block", first_block, scales.decoded, expected_scales_.data()));
      return;
    }
    if (EncoderOf(stored_.encoder).searching() != nullptr) {
      return CompareNested(first_block, scales, expected_scale_codes_, expected_group_scales_);
    }
    std::vector<std::uint8_t> expected_codes(blocks);
    std::vector<float> expected_groups(scales.group_scales.size());
    kernels_.quantize_scales(expected_scales_.data(), blocks, stored_.nested_offset, expected_codes.data(),
                             expected_groups.data());
    CompareNested(first_block, scales, expected_codes, expected_groups);
  }

  void CompareNested(std::uint64_t first_block, const BlockScales& scales, std::span<const std::uint8_t> expected_codes,
                     std::span<const float> expected_groups) {
    const std::span<const std::uint8_t> codes = scales.scale_codes;
    const std::uint64_t blocks = codes.size();
    result_.scale_codes.Append(CompareArrays(codes.data(), expected_codes.data(), blocks, [&](std::uint64_t i) {
      return fmt::format("block {}: {}", first_block + i,
                         GotExpected(std::to_string(codes[i]), std::to_string(expected_codes[i])));
    }));
    result_.group_scales.Append(
        CompareFloats("group", first_block / kScaleGroup, scales.group_scales, expected_groups.data()));
  }

  const KernelTable& kernels_;
  const Q4Reader& reader_;
  const Q4Tensor& stored_;
  const SourceTensor& source_tensor_;
  const SourceReader source_;
  const PieceReader pieces_;
  const bool recompute_;
  const PieceTools& tools_;
  const TensorPair& pair_;
  std::shared_ptr<const ColumnWeights> weights_;
  std::shared_ptr<const std::vector<std::uint8_t>> whole_codes_;
  const float absmax_offset_;
  const int effort_;
  const bool compare_absmax_;
  SlabResult result_;
  Xxh3Stream source_digest_{0}, stored_digest_{0};
  std::vector<std::uint8_t> source_bytes_, expected_codes_;
  std::vector<float> expected_scales_;
  // Of an encoder that nests its scales by itself.
  std::vector<std::uint8_t> expected_scale_codes_;
  std::vector<float> expected_group_scales_;
  std::vector<NestedLoss> losses_;
  std::vector<GroupSums> groups_;
};

}  // namespace

std::uint64_t SlabCount(const Q4Tensor& tensor) {
  if (tensor.quantized()) return std::max<std::uint64_t>(1, CeilDiv(tensor.elems, kQ4ChunkElems));
  const std::optional<Q4PartEntry> data = tensor.Part(Q4Part::kData);
  return !data ? 1 : std::max<std::uint64_t>(1, data->chunk_count);
}

std::uint64_t SlabElems(const Q4Tensor& tensor, std::uint64_t slab) {
  const bool is_raw = !tensor.quantized();
  const std::uint64_t most = is_raw ? Q4ChunkRawSize(Q4Part::kData) / ItemSize(tensor.dtype) : kQ4ChunkElems;
  return std::min(most, tensor.elems - slab * most);
}

// A worker thread's environment is not known; the kernels need RNE and subnormals (Q10.2).
SlabResult CompareSlab(const TensorPair& pair, const PieceTools& tools, std::uint64_t slab, float absmax_offset) {
  const ScopedFloatEnvironment environment;
  return SlabComparer(pair, tools, absmax_offset).Run(slab);
}

SlabResult SumAbsmaxScales(const TensorPair& pair, const PieceTools& tools, std::uint64_t slab) {
  const ScopedFloatEnvironment environment;
  return SlabComparer(pair, tools, 0).SumScalesOf(slab);
}

}  // namespace q4
