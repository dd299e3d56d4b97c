// Encoding writes the section table from sizes known in advance, then one section after the other. Decoding checks
// the table, cuts the index into its sections and walks them side by side: a tensor record says how many dimensions
// and name bytes are its own, so that nothing in the index points anywhere. Nine tenths of a large index are chunks and
// statistics; their records are used in place.
#include "formats/q4/index.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <type_traits>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/validate.h"

namespace q4 {
namespace {

// Chunk and statistics records are used as they lie in the file (F1.2), which a big-endian machine could not do.
static_assert(std::endian::native == std::endian::little, "records are used as they lie in the file");

using SectionSizes = std::array<std::uint64_t, kQ4SectionCount>;
constexpr std::uint64_t kTableBytes = 8 + kQ4SectionCount * Q4SectionEntry::kBytes;

// Kinds count from 1.
constexpr std::size_t At(Q4SectionKind kind) { return static_cast<std::size_t>(kind) - 1; }

std::uint64_t AlignSection(std::uint64_t offset) { return CeilDiv(offset, kQ4SectionAlignment) * kQ4SectionAlignment; }

// Section sizes without padding, from counts alone: the plan asks before any chunk exists.
SectionSizes SizesOf(const Q4Index& index, std::uint64_t chunk_count, std::uint64_t provenance_bytes) {
  SectionSizes sizes{};
  sizes[At(Q4SectionKind::kTensors)] = index.tensors.size() * Q4TensorRecord::kBytes;
  sizes[At(Q4SectionKind::kFiles)] = index.files.size() * Q4FileRecord::kBytes;
  sizes[At(Q4SectionKind::kChunks)] = chunk_count * kQ4ChunkRecordBytes;
  sizes[At(Q4SectionKind::kProvenance)] = provenance_bytes;
  for (const Q4Tensor& tensor : index.tensors) {
    sizes[At(Q4SectionKind::kDims)] += tensor.shape.size() * sizeof(std::uint64_t);
    sizes[At(Q4SectionKind::kNames)] += tensor.name.size();
    if (tensor.has_stats) sizes[At(Q4SectionKind::kStats)] += kQ4StatsRecordBytes;
  }
  for (const Q4EmbeddedFile& file : index.files) sizes[At(Q4SectionKind::kNames)] += file.name.size();
  return sizes;
}

// Counts and enumerators were validated, so that nothing is cut off here.
Q4TensorRecord RecordOf(const Q4Tensor& tensor) {
  Q4TensorRecord record;
  record.first_chunk = tensor.first_chunk;
  record.name_bytes = static_cast<std::uint32_t>(tensor.name.size());
  record.block_size = tensor.block_size;
  record.dtype = static_cast<std::uint8_t>(tensor.dtype);
  record.rank = static_cast<std::uint8_t>(tensor.shape.size());
  record.scheme = static_cast<std::uint8_t>(tensor.scheme);
  record.encoder = static_cast<std::uint8_t>(tensor.encoder);
  if (tensor.nested) record.flags |= Q4TensorRecord::kNested;
  if (tensor.has_stats) record.flags |= Q4TensorRecord::kHasStats;
  record.nested_offset = tensor.nested_offset;
  return record;
}

// The sections of an index, each as a reader of its bytes. Decoding takes from several at once.
class Sections {
 public:
  absl::Status Parse(std::span<const std::uint8_t> bytes, std::string_view path);
  ByteReader& operator[](Q4SectionKind kind) { return readers_[At(kind)]; }

 private:
  std::array<ByteReader, kQ4SectionCount> readers_ = {ByteReader({}), ByteReader({}), ByteReader({}), ByteReader({}),
                                                      ByteReader({}), ByteReader({}), ByteReader({})};
};

// F5.2 for the sections that this build knows. An unknown one is skipped when it is optional; when it is required the
// file needs a newer reader (F5.3), which is no damage.
absl::Status CheckFlags(const Q4SectionEntry& entry, std::string_view path) {
  const bool known = entry.kind <= kQ4SectionCount;
  const std::uint32_t expected = known && IsRequiredSection(static_cast<Q4SectionKind>(entry.kind)) ? 1 : 0;
  if (entry.flags > 1 || (known && entry.flags != expected)) {
    return Fail(kQ4SectionTable, path, fmt::format("section {}", entry.kind), fmt::format("flags {:#x}", entry.flags));
  }
  if (!known && entry.flags == 1) return Fail(kQ4UnknownSection, path, fmt::format("section {}", entry.kind));
  return absl::OkStatus();
}

// F5.1: sections lie one behind the other in the order of the table, padding is zero, and the index ends with the last
// one. So every byte of it is accounted for.
absl::Status Sections::Parse(std::span<const std::uint8_t> bytes, std::string_view path) {
  ByteReader in(bytes);
  const std::uint32_t count = in.U32();
  const std::uint32_t reserved = in.U32();
  // The count is bounded before anything is multiplied with it.
  if (!in.ok() || count < kQ4SectionCount || count > kQ4MaxSections) {
    return Fail(kQ4SectionTable, path, "Section_Count", fmt::to_string(count));
  }
  if (reserved != 0) return Fail(kQ4ReservedNotZero, path, "index");

  std::uint64_t end = 8 + count * Q4SectionEntry::kBytes;
  std::uint32_t last_kind = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Q4SectionEntry entry = Q4SectionEntry::DecodeFrom(&in);
    const std::string where = fmt::format("section {}", entry.kind);
    if (!in.ok()) return Fail(kQ4SectionTable, path, "index", "too short for its section table");
    // The first seven are 1 to 7; whatever is unknown has a higher number.
    if (entry.kind <= last_kind || (i < kQ4SectionCount && entry.kind != i + 1)) {
      return Fail(kQ4SectionTable, path, where, "kinds are not in order");
    }
    last_kind = entry.kind;
    Q4_RETURN_IF_ERROR(CheckFlags(entry, path));
    // `end` is within the index and therefore far from wrapping. A stated offset is compared with the computed one and
    // never followed.
    const std::uint64_t begin = AlignSection(end);
    if (entry.offset != begin || !RangeFits(begin, entry.bytes, bytes.size())) {
      return Fail(kQ4SectionTable, path, where,
                  fmt::format("{} bytes at {}, expected at {}", entry.bytes, entry.offset, begin));
    }
    // Covered by the digest of the index, but a writer of our own would never fill it: there is one valid reading
    // (F1.4).
    const auto padding = bytes.subspan(end, begin - end);
    if (std::any_of(padding.begin(), padding.end(), [](std::uint8_t byte) { return byte != 0; })) {
      return Fail(kQ4ReservedNotZero, path, where, "padding before it");
    }
    end = begin + entry.bytes;
    if (i < kQ4SectionCount) readers_[i] = ByteReader(bytes.subspan(begin, entry.bytes), begin);
  }
  // The padding behind the last section, and nothing else.
  const auto padding = bytes.subspan(end);
  if (padding.size() != AlignSection(end) - end)
    return Fail(kQ4SectionTable, path, "index", "does not end with its last section");
  if (std::any_of(padding.begin(), padding.end(), [](std::uint8_t byte) { return byte != 0; })) {
    return Fail(kQ4ReservedNotZero, path, "index", "padding at its end");
  }
  return absl::OkStatus();
}

// A section that holds more or less than the records before it say.
absl::Status Misfit(Q4SectionKind kind, std::string_view path) {
  return Fail(kQ4SectionContent, path, fmt::format("section {}", static_cast<std::uint32_t>(kind)));
}

// The number of records of `record_bytes` in a section. The section lies in the index, so the count is bounded by bytes
// that are there; `limit` bounds it further.
absl::StatusOr<std::uint64_t> CountRecords(Sections* sections, Q4SectionKind kind, std::uint64_t record_bytes,
                                           std::uint64_t limit, std::string_view path) {
  const std::uint64_t bytes = (*sections)[kind].remaining();
  if (bytes % record_bytes != 0 || bytes / record_bytes > limit) return Misfit(kind, path);
  return bytes / record_bytes;
}

// The next name of section 3. Lengths stand in the records, so names need no separators and may hold any characters.
absl::Status TakeName(Sections* sections, std::uint32_t name_bytes, std::string_view path, std::string* name) {
  ByteReader& names = (*sections)[Q4SectionKind::kNames];
  const auto bytes = names.Bytes(name_bytes);
  if (!names.ok()) return Misfit(Q4SectionKind::kNames, path);
  name->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return absl::OkStatus();
}

// The next `count` records of a section where they lie in `bytes`, which the result keeps alive. REQUIRES: so many are
// there, and the section is a part of `bytes`.
template <typename Record>
std::shared_ptr<const Record> TakeInPlace(const SharedArray<std::uint8_t>& bytes, std::uint64_t count,
                                          ByteReader* section) {
  // Sections begin at multiples of 8 in an index whose memory is aligned at least as much, and record sizes are
  // multiples of 8, so every record is aligned.
  static_assert(std::is_trivially_copyable_v<Record> && alignof(Record) <= kQ4SectionAlignment);
  const auto records = section->Bytes(count * sizeof(Record));
  return {bytes.owner(), reinterpret_cast<const Record*>(records.data())};
}

// The next tensor: its record, and what it says are its own in the sections of names, dimensions and statistics.
// Whatever is cast to an enumeration here is checked by ValidateQ4Tensor() before anybody looks at it.
absl::Status DecodeTensor(Sections* sections, const SharedArray<std::uint8_t>& bytes, std::string_view path,
                          Q4Tensor* tensor) {
  Q4TensorRecord record;
  const bool reserved_zero = record.DecodeFrom(&(*sections)[Q4SectionKind::kTensors]);
  // The name is taken before anything is judged, so that errors can name the tensor.
  Q4_RETURN_IF_ERROR(TakeName(sections, record.name_bytes, path, &tensor->name));
  if (!reserved_zero) return Fail(kQ4ReservedNotZero, path, "tensor '" + tensor->name + "'");

  ByteReader& dims = (*sections)[Q4SectionKind::kDims];
  if (dims.remaining() < record.rank * sizeof(std::uint64_t)) return Misfit(Q4SectionKind::kDims, path);
  // At most 255 dimensions, all of them there; ValidateQ4Tensor() allows 8.
  tensor->shape.reserve(record.rank);
  for (unsigned i = 0; i < record.rank; ++i) tensor->shape.push_back(dims.U64());

  tensor->dtype = static_cast<DType>(record.dtype);
  tensor->scheme = static_cast<Q4Scheme>(record.scheme);
  tensor->encoder = static_cast<Q4Encoder>(record.encoder);
  tensor->block_size = record.block_size;
  tensor->nested = (record.flags & Q4TensorRecord::kNested) != 0;
  tensor->nested_offset = record.nested_offset;
  tensor->has_stats = (record.flags & Q4TensorRecord::kHasStats) != 0;
  // Unknown bits might mean anything, so they are no tensor of this version.
  if (record.flags > (Q4TensorRecord::kNested | Q4TensorRecord::kHasStats)) {
    return Fail(kQ4TensorRecord, path, "tensor '" + tensor->name + "'", fmt::format("flags {:#x}", record.flags));
  }
  if (!ComputeQ4Elements(tensor->shape, &tensor->elems)) {
    return Fail(kQ4TensorShape, path, "tensor '" + tensor->name + "'", ShapeString(tensor->shape));
  }
  Q4_RETURN_IF_ERROR(ValidateQ4Tensor(*tensor, path));
  // Only ValidateQ4Index() knows whether other numbers are right; this one no chunk would contradict.
  if (tensor->elems == 0 && record.first_chunk != 0) {
    return Fail(kQ4TensorRecord, path, "tensor '" + tensor->name + "'", "has a chunk but no elements");
  }
  tensor->first_chunk = record.first_chunk;
  if (tensor->has_stats) {
    ByteReader& stats = (*sections)[Q4SectionKind::kStats];
    if (stats.remaining() < kQ4StatsRecordBytes) return Misfit(Q4SectionKind::kStats, path);
    tensor->stats = TakeInPlace<Q4Stats>(bytes, 1, &stats);
  }
  return absl::OkStatus();
}

// The next embedded file. Its chunks are not stated but follow from those before it: files come first in the payload
// (F3.2).
absl::Status DecodeFile(Sections* sections, std::uint64_t first_chunk, std::string_view path, Q4EmbeddedFile* file) {
  Q4FileRecord record;
  const bool reserved_zero = record.DecodeFrom(&(*sections)[Q4SectionKind::kFiles]);
  Q4_RETURN_IF_ERROR(TakeName(sections, record.name_bytes, path, &file->name));
  if (!reserved_zero) return Fail(kQ4ReservedNotZero, path, "file '" + file->name + "'");
  file->raw_bytes = record.raw_bytes;
  file->first_chunk = first_chunk;
  file->chunk_count = CeilDiv(record.raw_bytes, kQ4ChunkBytes);
  return ValidateQ4File(*file, path);
}

}  // namespace

// F5.1: every section begins, and the index ends, at a multiple of 8.
std::uint64_t Q4IndexBytes(const Q4Index& index, std::uint64_t chunk_count, std::uint64_t provenance_bytes) {
  std::uint64_t end = kTableBytes;
  for (const std::uint64_t bytes : SizesOf(index, chunk_count, provenance_bytes)) end = AlignSection(end + bytes);
  return end;
}

// Two walks: the table from the sizes, then the sections in the same order. The sizes are those that the plan computed,
// so a disagreement would show as a section table that no reader accepts.
std::vector<std::uint8_t> EncodeQ4Index(const Q4Index& index) {
  ByteWriter out;
  out.U32(kQ4SectionCount);
  out.U32(0);
  std::uint64_t offset = kTableBytes;
  std::uint32_t kind = 0;
  for (const std::uint64_t bytes : SizesOf(index, index.chunks.size(), index.provenance.size())) {
    ++kind;
    Q4SectionEntry{kind, IsRequiredSection(static_cast<Q4SectionKind>(kind)) ? 1u : 0u, offset, bytes}.EncodeTo(&out);
    offset = AlignSection(offset + bytes);
  }

  // Pads to the next section; the table has been written with the same rule.
  const auto end_section = [&out] { out.Zeros(AlignSection(out.size()) - out.size()); };
  for (const Q4Tensor& tensor : index.tensors) RecordOf(tensor).EncodeTo(&out);
  end_section();
  for (const Q4Tensor& tensor : index.tensors) {
    for (const std::uint64_t dim : tensor.shape) out.U64(dim);
  }
  end_section();
  for (const Q4Tensor& tensor : index.tensors) out.Text(tensor.name);
  for (const Q4EmbeddedFile& file : index.files) out.Text(file.name);
  end_section();
  for (const Q4EmbeddedFile& file : index.files) {
    Q4FileRecord{file.raw_bytes, static_cast<std::uint32_t>(file.name.size())}.EncodeTo(&out);
  }
  end_section();
  for (const Q4Chunk& chunk : index.chunks) EncodeQ4ChunkRecord(chunk, &out);
  end_section();
  for (const Q4Tensor& tensor : index.tensors) {
    if (tensor.has_stats) EncodeQ4StatsRecord(*tensor.stats, &out);
  }
  end_section();
  out.Text(index.provenance);
  end_section();
  return out.Take();
}

// The order is that of dependence: tensors and files take their dimensions and names, chunks are used in place, and in
// the end no byte of the shared sections may be left.
absl::StatusOr<Q4Index> DecodeQ4Index(const Q4Header& header, const SharedArray<std::uint8_t>& bytes,
                                      std::string_view path) {
  Sections sections;
  Q4_RETURN_IF_ERROR(sections.Parse(bytes, path));
  Q4Index index;
  index.file_id = header.file_id;
  index.version = header.version;
  index.required_features = header.required_features;
  index.shard = header.shard;
  index.shard_count = header.shard_count;

  Q4_ASSIGN_OR_RETURN(
      const std::uint64_t tensor_count,
      CountRecords(&sections, Q4SectionKind::kTensors, Q4TensorRecord::kBytes, limits::kTensorsPerCheckpoint, path));
  // A Q4Tensor takes a few times the 32 bytes of its record, and the records are there.
  index.tensors.reserve(tensor_count);
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    Q4_RETURN_IF_ERROR(DecodeTensor(&sections, bytes, path, &index.tensors.emplace_back()));
  }

  Q4_ASSIGN_OR_RETURN(const std::uint64_t file_count, CountRecords(&sections, Q4SectionKind::kFiles,
                                                                   Q4FileRecord::kBytes, limits::kEmbeddedFiles, path));
  index.files.resize(file_count);
  // Cannot wrap: at most 1,000 files of at most 256 MiB, each checked as it comes.
  std::uint64_t first_chunk = 0;
  for (Q4EmbeddedFile& file : index.files) {
    Q4_RETURN_IF_ERROR(DecodeFile(&sections, first_chunk, path, &file));
    first_chunk += file.chunk_count;
  }

  Q4_ASSIGN_OR_RETURN(const std::uint64_t chunk_count, CountRecords(&sections, Q4SectionKind::kChunks,
                                                                    kQ4ChunkRecordBytes, limits::kQ4IndexBytes, path));
  index.chunks = {TakeInPlace<Q4Chunk>(bytes, chunk_count, &sections[Q4SectionKind::kChunks]), chunk_count};
  // What can be told of a chunk alone; the rest is compared with its owner by ValidateQ4Index().
  for (std::uint64_t i = 0; i < chunk_count; ++i) {
    const Q4Chunk& chunk = index.chunks[i];
    const bool zero = std::all_of(chunk.reserved.begin(), chunk.reserved.end(), [](std::uint8_t b) { return b == 0; });
    if (!zero || chunk.codec > Q4Codec::kZstd) {
      return Fail(kQ4ChunkCodec, path, fmt::format("chunk {}", i), "codec or reserved bytes");
    }
  }

  ByteReader& provenance = sections[Q4SectionKind::kProvenance];
  const auto text = provenance.Bytes(provenance.remaining());
  index.provenance.assign(text.begin(), text.end());

  // F5, section 3: dimensions, names and statistics are used up exactly.
  for (const Q4SectionKind kind : {Q4SectionKind::kDims, Q4SectionKind::kNames, Q4SectionKind::kStats}) {
    if (sections[kind].remaining() != 0) return Misfit(kind, path);
  }
  return index;
}

}  // namespace q4
