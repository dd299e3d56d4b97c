// The .q4 container as values: what a header, tensor entry, chunk entry and seal mean. docs/format.md is normative
// for the bytes; q4_layout.{h,cc} encodes and decodes them, q4_writer.h writes files and q4_reader.h reads them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/base/digest.h"
#include "formats/base/shared_array.h"
#include "formats/q4/scheme_layout.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// How scales and codes were chosen. Values are stored in files and never change.
enum class Q4Encoder : std::uint8_t { kNone = 0, kAbsmax = 1, kMse = 2 };

// The parts of a tensor, stored one after the other in this order inside the tensor's segment. A raw tensor has kData
// only; a quantized one kCodes and kScales (fp32), or, nested, kCodes, kScaleCodes (8 bits) and kScales2 (fp32).
enum class Q4Part : std::uint8_t { kData = 0, kCodes = 1, kScales = 2, kScaleCodes = 3, kScales2 = 4 };

enum class Q4Codec : std::uint8_t { kStored = 0, kZstd = 1 };

// A run of a part's bytes, the unit of compression, digests and random access. Raw sizes follow from the shape
// (q4_parts.h), so that nothing is believed that can be computed.
//
// Has the layout of the record in the index (section 5 of the format), so that an index is used where it was read: a
// model of 100,000 tensors has 250,000 chunks.
struct Q4Chunk {
  std::uint64_t offset = 0;  // absolute file offset of the stored bytes
  std::uint32_t stored_bytes = 0;
  std::uint32_t raw_bytes = 0;
  Q4Codec codec = Q4Codec::kStored;
  std::uint8_t plane_bytes = 1;            // 1: bytes as they are; 2 or 4: split into that many byte planes before zstd
  std::array<std::uint8_t, 6> reserved{};  // 0
  std::uint64_t xxh3 = 0;                  // seeded, over the stored bytes
  Sha256 sha256{};                         // over the stored bytes
};
static_assert(sizeof(Q4Chunk) == 64 && offsetof(Q4Chunk, codec) == 16 && offsetof(Q4Chunk, xxh3) == 24);

// Elements per chunk of codes (F3.5): a constant of the format, whatever the block size. It is a multiple of 256
// blocks of every block size, so that a chunk owns whole groups (Q7.5).
inline constexpr std::uint64_t kQ4ChunkElems = std::uint64_t{1} << 22;
// Bytes per chunk of every other part and of embedded files.
inline constexpr std::uint64_t kQ4ChunkBytes = std::uint64_t{8} << 20;

// The primary error statistics of one quantized tensor (numerics Q8), exactly as computed; ratios are derived on
// output. Has the layout of the record in the index, as Q4Chunk.
struct Q4Stats {
  std::uint64_t count = 0, zero_blocks = 0, tiny_blocks = 0, clipped = 0, overflow = 0;
  std::array<std::uint64_t, 16> hist{};
  double sum_e = 0, sum_abs_e = 0, sum_e2 = 0, sum_x2 = 0, sum_xy = 0;
  double max_abs_err = 0;
  std::uint64_t max_abs_err_index = 0;
  double max_gap_ratio = 0;
  double worst_block_e2 = 0;
  std::uint64_t worst_block = 0;
  bool operator==(const Q4Stats&) const = default;
};
static_assert(sizeof(Q4Stats) == 248 && offsetof(Q4Stats, sum_e) == 168 && offsetof(Q4Stats, worst_block) == 240);

struct Q4PartEntry {
  Q4Part part = Q4Part::kData;
  std::uint64_t raw_bytes = 0;
  std::uint64_t first_chunk = 0;  // into Q4Index::chunks
  std::uint64_t chunk_count = 0;  // ceil(raw_bytes / chunk size), 0 for an empty part
};

// The parts of one tensor, in the order of Q4Part.
class Q4PartList {
 public:
  void Add(const Q4PartEntry& entry) { entries_[size_++] = entry; }  // REQUIRES: size() < 3

  std::size_t size() const { return size_; }
  const Q4PartEntry* begin() const { return entries_.data(); }
  const Q4PartEntry* end() const { return begin() + size_; }
  const Q4PartEntry& operator[](std::size_t i) const { return entries_[i]; }
  const Q4PartEntry& front() const { return entries_[0]; }

 private:
  std::array<Q4PartEntry, 3> entries_;
  std::size_t size_ = 0;
};

// One tensor. Its format's block size is 0 for kRaw.
struct Q4Tensor : QuantFormat {
  std::string name;
  DType dtype = DType::kF32;  // of the source: what dequantizing gives by default; for kRaw the stored type
  Shape shape;
  std::uint64_t elems = 0;
  Q4Encoder encoder = Q4Encoder::kNone;
  bool has_stats = false;  // true for every quantized tensor that q4convert made from 16- or 32-bit weights
  float nested_offset = 0;
  std::uint64_t first_chunk = 0;         // into Q4Index::chunks; 0 without elements; set once the tensor is written
  std::shared_ptr<const Q4Stats> stats;  // not null where has_stats, once the tensor is written

  std::uint64_t blocks() const { return BlocksOf(elems); }
  // What follows from the other fields (F3.4, F3.5). REQUIRES: ValidateQ4Tensor() holds.
  Q4PartList parts() const;
  // nullopt when the tensor has no such part.
  std::optional<Q4PartEntry> Part(Q4Part part) const;
};

// An embedded file: configuration, tokenizer, templates.
struct Q4EmbeddedFile {
  std::string name;
  std::uint64_t raw_bytes = 0;
  std::uint64_t first_chunk = 0;
  std::uint64_t chunk_count = 0;
};

// Everything but the payload.
struct Q4Index {
  Sha256 file_id{};  // derived from plan, options and source headers; seeds every digest
  std::uint32_t version = 1;
  std::uint64_t required_features = 0;
  std::vector<Q4Tensor> tensors;      // bytewise sorted by name
  std::vector<Q4EmbeddedFile> files;  // bytewise sorted by name
  SharedArray<Q4Chunk> chunks;        // in file order
  std::string provenance;             // one canonical JSON document, see docs/format.md
  std::uint32_t shard = 0;            // 0-based
  std::uint32_t shard_count = 1;
};

// What identifies and closes a container.
struct Q4Seal {
  Sha256 root{};  // SHA-256 over the index, which lists every chunk's SHA-256: the artifact's identity
  std::uint64_t file_bytes = 0;
  std::uint64_t index_offset = 0;
  std::uint64_t index_bytes = 0;
};

}  // namespace q4
