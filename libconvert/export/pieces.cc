// Planning cuts a target into pieces along the container's chunks; making a piece needs its chunk of codes or data, and
// of the scales, which cover more, the chunks that the cache keeps for the next pieces. What is read goes through the
// same checks as in every other reader: a digest says that bytes are those that were written, not that they make sense.
//
// No format is known here. What a new tensor is called and what it is made of is the exporter's business; here is how
// bytes of one kind of piece are made.
#include "libconvert/export/pieces.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "formats/q4/validate.h"
#include "libconvert/model/decoder.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// A part that the tensor does not have counts as one without chunks.
std::uint64_t ChunksOf(const Q4Tensor& tensor, Q4Part part) {
  const std::optional<Q4PartEntry> entry = tensor.Part(part);
  return entry ? entry->chunk_count : 0;
}

// Stored scales are finite, so every infinite element among decoded ones is one that did not fit. The sign bit is
// masked out; an infinity is the one bit pattern with all exponent bits and no fraction bit, so NaNs do not count.
std::uint64_t CountInfinite(DType dtype, std::span<const std::uint8_t> bytes) {
  std::uint64_t count = 0;
  if (dtype == DType::kF32) {
    for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      std::uint32_t word = 0;
      std::memcpy(&word, bytes.data() + i, 4);
      count += (word & 0x7FFFFFFF) == 0x7F800000;
    }
    return count;
  }
  const std::uint16_t infinity = dtype == DType::kF16 ? 0x7C00 : 0x7F80;
  for (std::size_t i = 0; i + 2 <= bytes.size(); i += 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, bytes.data() + i, 2);
    count += (word & 0x7FFF) == infinity;
  }
  return count;
}

// Scales of blocks [first, first + count), which is whole groups or ends with the tensor. What is stored of them is
// checked as F3.6 asks.
absl::StatusOr<BlockScales> ReadScales(const ExportSource& source, const TensorDecoder& decoder, std::uint64_t first,
                                       std::uint64_t count) {
  Q4_ASSIGN_OR_RETURN(BlockScales scales, decoder.ReadScales(first, count));
  const bool nested = source.tensor->nested;
  const std::span<const float> stored = nested ? scales.group_scales : scales.decoded;
  // ContainerPartReader checks digests only. Scale codes are bytes and need no check; the group scales, or the fp32
  // scales, do.
  Q4_RETURN_IF_ERROR(ValidateQ4Scales(*source.tensor, nested ? Q4Part::kScales2 : Q4Part::kScales,
                                      {reinterpret_cast<const std::uint8_t*>(stored.data()), stored.size_bytes()},
                                      nested ? first / kScaleGroup : first, source.reader->path()));
  return scales;
}

// One slab: a chunk of codes holds exactly 2^22 elements. Its scales are part of a larger chunk, which the cache keeps
// for the slabs that follow.
absl::StatusOr<PieceBytes> Decode(const ExportSource& source, DType dtype, std::uint64_t chunk,
                                  const KernelTable& kernels, ChunkCache* cache) {
  const Q4Tensor& tensor = *source.tensor;
  // Of the slab, in elements. It begins a block, and a group, whatever the block size.
  const std::uint64_t first = chunk * kQ4ChunkElems;
  const std::uint64_t elems = std::min(kQ4ChunkElems, tensor.elems - first);
  Q4_ASSIGN_OR_RETURN(const auto codes, source.reader->ReadChunk(tensor.Part(Q4Part::kCodes)->first_chunk + chunk));
  const ContainerPartReader parts(*source.reader, tensor, cache);
  const TensorDecoder decoder(kernels, tensor, parts);
  Q4_ASSIGN_OR_RETURN(const BlockScales scales,
                      ReadScales(source, decoder, first / tensor.block_size, BlockCount(elems, tensor.block_size)));
  PieceBytes piece;
  piece.bytes.resize(elems * ItemSize(dtype));
  decoder.Decode(codes.data(), scales.decoded.data(), elems, FloatTypeOf(dtype), piece.bytes.data());
  piece.overflowed = CountInfinite(dtype, piece.bytes);
  return piece;
}

// One chunk of a kept tensor. Its elements need nothing else.
absl::StatusOr<PieceBytes> Convert(const ExportSource& source, DType dtype, std::uint64_t chunk,
                                   const KernelTable& kernels) {
  const Q4Tensor& tensor = *source.tensor;
  Q4_ASSIGN_OR_RETURN(const auto data, source.reader->ReadChunk(tensor.Part(Q4Part::kData)->first_chunk + chunk));
  const std::uint64_t elems = data.size() / ItemSize(tensor.dtype);
  PieceBytes piece;
  piece.bytes.resize(elems * ItemSize(dtype));
  piece.overflowed =
      kernels.convert(FloatTypeOf(tensor.dtype), data.data(), elems, FloatTypeOf(dtype), piece.bytes.data());
  return piece;
}

}  // namespace

void AddStoredTarget(std::uint32_t source, Q4Part part, ExportTensor target, ExportPlan* plan) {
  const auto index = static_cast<std::uint32_t>(plan->targets.size());
  plan->targets.push_back(std::move(target));
  // A stored chunk is copied whole, so a piece's place in the target is the chunk's place in the part.
  for (std::uint64_t chunk = 0; chunk < ChunksOf(*plan->sources[source].tensor, part); ++chunk) {
    plan->pieces.push_back({PieceKind::kStored, part, source, index, chunk, chunk * Q4ChunkRawSize(part)});
  }
}

void AddConvertedTarget(std::uint32_t source, ExportTensor target, ExportPlan* plan) {
  const Q4Tensor& tensor = *plan->sources[source].tensor;
  const bool raw = !tensor.quantized();
  const Q4Part part = raw ? Q4Part::kData : Q4Part::kCodes;
  // Elements of a chunk are what source and target have in common; its bytes differ by the ratio of the item sizes.
  const std::uint64_t chunk_elems = raw ? kQ4ChunkBytes / ItemSize(tensor.dtype) : kQ4ChunkElems;
  const std::uint64_t chunk_bytes = chunk_elems * ItemSize(target.dtype);
  const auto index = static_cast<std::uint32_t>(plan->targets.size());
  plan->targets.push_back(std::move(target));
  for (std::uint64_t chunk = 0; chunk < ChunksOf(tensor, part); ++chunk) {
    plan->pieces.push_back(
        {raw ? PieceKind::kConverted : PieceKind::kDecoded, part, source, index, chunk, chunk * chunk_bytes});
  }
}

void AddBytesTarget(std::uint32_t source, MakeBytes make_bytes, ExportTensor target, ExportPlan* plan) {
  const auto index = static_cast<std::uint32_t>(plan->targets.size());
  plan->targets.push_back(std::move(target));
  plan->pieces.push_back({PieceKind::kBytes, Q4Part::kData, source, index, 0, 0, make_bytes});
}

absl::StatusOr<PieceBytes> MakePiece(const ExportPlan& plan, const ExportPiece& piece, const KernelTable& kernels,
                                     ChunkCache* cache) {
  const ExportSource& source = plan.sources[piece.source];
  // What elements become; without meaning for stored pieces and for bytes.
  const DType dtype = plan.targets[piece.target].dtype;
  switch (piece.kind) {
    case PieceKind::kStored: {
      const std::uint64_t chunk = source.tensor->Part(piece.part)->first_chunk + piece.chunk;
      Q4_ASSIGN_OR_RETURN(auto bytes, source.reader->ReadChunk(chunk));
      // For the message alone; a part without fp32 values has nothing to check.
      const std::uint64_t first_scale = piece.chunk * Q4ChunkRawSize(piece.part) / sizeof(float);
      Q4_RETURN_IF_ERROR(ValidateQ4Scales(*source.tensor, piece.part, bytes, first_scale, source.reader->path()));
      return PieceBytes{std::move(bytes), 0};
    }
    case PieceKind::kConverted:
      return Convert(source, dtype, piece.chunk, kernels);
    case PieceKind::kDecoded:
      return Decode(source, dtype, piece.chunk, kernels, cache);
    case PieceKind::kBytes:
      break;
  }
  return PieceBytes{piece.make_bytes(*source.tensor, plan.bnb), 0};
}

}  // namespace q4
