// Regions follow each other without gaps: embedded files, then tensors in the order in which they are stored, which is
// the order in which a conversion reads. Their bytes together are far below 2^64: an index has at most 256 MiB, which
// is some millions of chunks, and a chunk decodes to 16 MiB.
#include "libconvert/requantize/decoded_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "formats/q4/validate.h"
#include "kernels/kernels.h"
#include "libconvert/model/decoder.h"
#include "libconvert/model/stored_tensor.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// Largest block.
constexpr std::uint64_t kMostBlockElems = 4096;

// A chunk's digest says that its scales are those that were written, not that they make sense.
absl::Status CheckScales(const Q4Reader& reader, const Q4Tensor& tensor, const BlockScales& scales,
                         std::uint64_t block) {
  const std::span<const float> stored = tensor.nested ? scales.group_scales : scales.decoded;
  return ValidateQ4Scales(tensor, tensor.nested ? Q4Part::kScales2 : Q4Part::kScales,
                          {reinterpret_cast<const std::uint8_t*>(stored.data()), stored.size_bytes()},
                          tensor.nested ? block / kScaleGroup : block, reader.path());
}

}  // namespace

absl::StatusOr<std::shared_ptr<DecodedFile>> DecodedFile::Open(FileSystem& fs, std::shared_ptr<const Q4Model> model,
                                                               std::size_t shard) {
  std::shared_ptr<DecodedFile> decoded(new DecodedFile());
  decoded->model_ = std::move(model);
  decoded->shard_ = shard;
  const Q4Reader& reader = decoded->reader();
  Q4_ASSIGN_OR_RETURN(decoded->file_, fs.OpenForRead(reader.path()));
  if (!(decoded->file_->version() == reader.file().version())) return Fail(kFileChanged, reader.path(), {});
  const Q4Index& index = reader.index();
  std::uint64_t end = decoded->size();
  for (const Q4EmbeddedFile& file : index.files) {
    decoded->files_.push_back({end, file.raw_bytes});
    end += file.raw_bytes;
  }
  std::vector<std::uint32_t>& order = decoded->by_place_;
  order.resize(index.tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return index.tensors[a].first_chunk < index.tensors[b].first_chunk;
  });
  decoded->tensors_.resize(index.tensors.size());
  for (const std::uint32_t i : order) {
    const std::uint64_t bytes = index.tensors[i].elems * ItemSize(index.tensors[i].dtype);
    decoded->tensors_[i] = {end, bytes};
    end += bytes;
  }
  return decoded;
}

std::uint64_t DecodedFile::MemoryOfRead() const {
  std::uint64_t elements = 0, scales = 0;
  for (const Q4Tensor& tensor : reader().index().tensors) {
    for (const Q4PartEntry& part : tensor.parts()) {
      const std::uint64_t chunk = std::min(part.raw_bytes, Q4ChunkRawSize(part.part));
      std::uint64_t& most = part.part == Q4Part::kData || part.part == Q4Part::kCodes ? elements : scales;
      most = std::max(most, chunk);
    }
  }
  for (const Q4EmbeddedFile& file : reader().index().files) {
    elements = std::max(elements, std::min(file.raw_bytes, kQ4ChunkBytes));
  }
  // Each chunk as stored, in planes and as it is; scales in two levels; decoded ones of a slab at the smallest block.
  return 3 * elements + 6 * scales + kQ4ChunkElems / 32 * sizeof(float) + kMostBlockElems * sizeof(float);
}

absl::Status DecodedFile::ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const {
  if (offset < size()) return file_->ReadAt(offset, out);
  if (out.empty()) return absl::OkStatus();  // of a tensor without elements
  const auto inside = [&](const Region& region) {
    return offset >= region.begin && offset - region.begin <= region.bytes &&
           out.size() <= region.bytes - (offset - region.begin);
  };
  for (std::size_t i = 0; i < files_.size() && files_[i].begin <= offset; ++i) {
    if (inside(files_[i])) return ReadStored(reader().index().files[i].first_chunk, offset - files_[i].begin, out);
  }
  // The last that begins at or before it. Those without bytes stand before the one that has the byte.
  const auto behind = std::partition_point(by_place_.begin(), by_place_.end(),
                                           [&](std::uint32_t i) { return tensors_[i].begin <= offset; });
  if (behind == by_place_.begin() || !inside(tensors_[*(behind - 1)])) {
    return Fail(kFileEndsEarly, path(), "behind its end");
  }
  const std::uint32_t i = *(behind - 1);
  return ReadTensor(reader().index().tensors[i], offset - tensors_[i].begin, out);
}

// Bytes of an embedded file, whose chunks follow each other.
absl::Status DecodedFile::ReadStored(std::uint64_t first_chunk, std::uint64_t begin,
                                     std::span<std::uint8_t> out) const {
  while (!out.empty()) {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> chunk, reader().ReadChunk(first_chunk + begin / kQ4ChunkBytes));
    const std::uint64_t at = begin % kQ4ChunkBytes, count = std::min<std::uint64_t>(chunk.size() - at, out.size());
    std::memcpy(out.data(), chunk.data() + at, count);
    out = out.subspan(count);
    begin += count;
  }
  return absl::OkStatus();
}

absl::Status DecodedFile::ReadTensor(const Q4Tensor& tensor, std::uint64_t begin, std::span<std::uint8_t> out) const {
  const ContainerPartReader parts(reader(), tensor);
  if (!tensor.quantized()) {
    Q4_ASSIGN_OR_RETURN(const PartBytes bytes, parts.Read(Q4Part::kData, begin, out.size()));
    std::memcpy(out.data(), bytes.data(), out.size());
    return absl::OkStatus();
  }
  const ScopedFloatEnvironment environment;
  const TensorDecoder decoder(BestCpuKernels(), tensor, parts);
  const std::uint64_t item = ItemSize(tensor.dtype);
  const FloatType type = FloatTypeOf(tensor.dtype);
  std::uint64_t first = begin / item, count = out.size() / item;
  // Codes are decoded by whole blocks: those of the first one before the range are dropped, and a whole chunk of
  // elements is what is asked for mostly.
  while (count > 0) {
    const std::uint64_t block = first / tensor.block_size, skip = first % tensor.block_size;
    const std::uint64_t elems = std::min(skip != 0 ? tensor.block_size - skip : kQ4ChunkElems, count);
    Q4_ASSIGN_OR_RETURN(const BlockScales scales,
                        decoder.ReadScales(block, (skip + elems - 1) / tensor.block_size + 1));
    Q4_RETURN_IF_ERROR(CheckScales(reader(), tensor, scales, block));
    Q4_ASSIGN_OR_RETURN(const PartBytes codes, decoder.ReadCodes(first - skip, skip + elems));
    if (skip == 0) {
      decoder.Decode(codes.data(), scales.decoded.data(), elems, type, out.data());
    } else {
      alignas(float) std::array<std::uint8_t, kMostBlockElems * sizeof(float)> whole;
      decoder.Decode(codes.data(), scales.decoded.data(), skip + elems, type, whole.data());
      std::memcpy(out.data(), whole.data() + skip * item, elems * item);
    }
    out = out.subspan(elems * item);
    first += elems;
    count -= elems;
  }
  return absl::OkStatus();
}

void DecodedFile::Prefetch(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset < size()) return file_->Prefetch(offset, bytes);
  const auto behind = std::partition_point(by_place_.begin(), by_place_.end(),
                                           [&](std::uint32_t i) { return tensors_[i].begin <= offset; });
  if (behind == by_place_.begin()) return;
  const std::uint32_t i = *(behind - 1);
  const Q4Tensor& tensor = reader().index().tensors[i];
  // The elements of a chunk; a range of that size lies in one or two.
  const Q4Part part = tensor.quantized() ? Q4Part::kCodes : Q4Part::kData;
  const std::uint64_t chunk_bytes =
      tensor.quantized() ? kQ4ChunkElems * ItemSize(tensor.dtype) : Q4ChunkRawSize(Q4Part::kData);
  const std::optional<Q4PartEntry> entry = tensor.Part(part);
  const std::uint64_t number = (offset - tensors_[i].begin) / chunk_bytes;
  if (!entry || number >= entry->chunk_count) return;
  const Q4Chunk& chunk = reader().index().chunks[entry->first_chunk + number];
  file_->Prefetch(chunk.offset, chunk.stored_bytes);
}

}  // namespace q4
