// The .q4 container as values: what a tensor entry, chunk entry, index and seal mean. docs/format.md is normative for
// the bytes. layout.h encodes and decodes fixed-size structures and index.h the whole index, validate.h has the rules
// between fields, writer.h writes files and reader.h reads them.
//
// A model is one or more shards, each a file of this form. A shard holds tensors and embedded files (owners); a tensor
// has one to three parts (codes, scales, ...), and a part is cut into chunks.
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
#include "formats/q4/encoders.h"
#include "formats/q4/scheme_layout.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// The parts of a tensor, stored one after the other in this order inside the tensor's segment. A kept tensor has kData
// only; a quantized one kCodes and kScales (fp32), or, with nested scales, kCodes, kScaleCodes (8 bits) and kScales2
// (the fp32 group scales).
enum class Q4Part : std::uint8_t { kData = 0, kCodes = 1, kScales = 2, kScaleCodes = 3, kScales2 = 4 };

// How a chunk's bytes lie in the file (F4.1, F4.2). Values are stored in files.
enum class Q4Codec : std::uint8_t { kStored = 0, kZstd = 1 };

// A run of a part's bytes, the unit of compression, digests and random access. Raw sizes follow from the shape
// (parts.h), so that nothing is believed that can be computed.
//
// Has the layout of the record in the index (section 5 of the format), so that an index is used where it was read: a
// model of 100,000 tensors has 250,000 chunks.
struct Q4Chunk {
  // Absolute file offset of the stored bytes (F3.3).
  std::uint64_t offset = 0;
  std::uint32_t stored_bytes = 0;  // in the file, 1 .. raw_bytes
  std::uint32_t raw_bytes = 0;     // before compression
  Q4Codec codec = Q4Codec::kStored;
  // 1: bytes as they are; 2 or 4: split into that many byte planes before zstd (F4.4).
  std::uint8_t plane_bytes = 1;
  std::array<std::uint8_t, 6> reserved{};  // 0
  std::uint64_t xxh3 = 0;                  // seeded, over the stored bytes
  Sha256 sha256{};                         // over the stored bytes
};
static_assert(sizeof(Q4Chunk) == 64 && offsetof(Q4Chunk, codec) == 16 && offsetof(Q4Chunk, xxh3) == 24);

// Elements per chunk of codes (F3.5): a constant of the format, whatever the block size. It is a multiple of 256 blocks
// of every block size, so that a chunk owns whole groups (Q7.5). It is also the size of a slab, the unit of work.
inline constexpr std::uint64_t kQ4ChunkElems = std::uint64_t{1} << 22;
// Raw bytes per chunk of every other part and of embedded files (F3.5).
inline constexpr std::uint64_t kQ4ChunkBytes = std::uint64_t{8} << 20;

// The primary error statistics of one quantized tensor (numerics Q8), exactly as computed; ratios such as the NMSE are
// derived on output. e is the error, x the source element, y the decoded one. Has the layout of the record in the
// index, as Q4Chunk.
struct Q4Stats {
  // Elements; blocks of zeros only; other blocks whose scale is below TINY (Q8.7); elements outside the range of their
  // block's codes (Q8.7); elements whose output in the tensor's dtype is infinite (Q8.9).
  std::uint64_t count = 0, zero_blocks = 0, tiny_blocks = 0, clipped = 0, overflow = 0;
  std::array<std::uint64_t, 16> hist{};  // how often each code occurs; sums up to count
  // Sums in the fixed order of Q7.4: of e, |e|, e*e, x*x, x*y.
  double sum_e = 0, sum_abs_e = 0, sum_e2 = 0, sum_x2 = 0, sum_xy = 0;
  double max_abs_err = 0;               // the largest |e|
  std::uint64_t max_abs_err_index = 0;  // its first element
  double max_gap_ratio = 0;             // the largest error in half steps (Q8.7)
  double worst_block_e2 = 0;            // the largest sum of e*e of a block (Q8.10)
  std::uint64_t worst_block = 0;        // the first block that has it
  bool operator==(const Q4Stats&) const = default;
};
static_assert(sizeof(Q4Stats) == 248 && offsetof(Q4Stats, sum_e) == 168 && offsetof(Q4Stats, worst_block) == 240);

// Where a part lies. Follows from the tensor and stands in no file.
struct Q4PartEntry {
  Q4Part part = Q4Part::kData;
  std::uint64_t raw_bytes = 0;    // of the whole part, before compression
  std::uint64_t first_chunk = 0;  // into Q4Index::chunks
  std::uint64_t chunk_count = 0;  // ceil(raw_bytes / chunk size), 0 for an empty part
};

// The parts of one tensor, in the order of Q4Part. A vector without allocation: an index is walked tensor by tensor.
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

// One tensor of a container. Its format is inherited: scheme, block size (0 when kept) and nesting.
struct Q4Tensor : QuantFormat {
  std::string name;  // UTF-8 without NUL, 1 to 4096 bytes; untrusted text
  // Of the source: what dequantizing gives by default. For a kept tensor the type that is stored.
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t elems = 0;  // product of `shape`, below 2^48
  Q4Encoder encoder = Q4Encoder::kNone;
  // True for every quantized tensor that q4convert made from 16- or 32-bit weights.
  bool has_stats = false;
  // Q5.1: the mean of all scales, added to what the scale codes decode to. 0 unless nested.
  float nested_offset = 0;
  // Into Q4Index::chunks. 0 without elements; set once the tensor is written.
  std::uint64_t first_chunk = 0;
  // Not null where has_stats, once the tensor is written. May point into the index that was read, which it then keeps
  // alive.
  std::shared_ptr<const Q4Stats> stats;

  // Blocks of the tensor, 0 when it is kept.
  std::uint64_t blocks() const { return BlocksOf(elems); }
  // What follows from the other fields (F3.4, F3.5). REQUIRES: ValidateQ4Tensor() holds.
  Q4PartList parts() const;
  // One of parts(); nullopt when the tensor has no such part.
  std::optional<Q4PartEntry> Part(Q4Part part) const;
};

// An embedded file: configuration, tokenizer, templates; what a loader needs beside the weights.
struct Q4EmbeddedFile {
  std::string name;               // a relative path of plain components separated by '/' (format section 5)
  std::uint64_t raw_bytes = 0;    // its size, at most 256 MiB
  std::uint64_t first_chunk = 0;  // into Q4Index::chunks; files come first in the payload
  std::uint64_t chunk_count = 0;  // ceil(raw_bytes / kQ4ChunkBytes)
};

// Everything but the payload. As a plan (writer.h) it has no chunks, statistics and provenance yet. Copying it copies
// names and shapes, while chunks and statistics are shared.
struct Q4Index {
  Sha256 file_id{};                     // derived from plan, options and source headers; seeds every digest
  std::uint32_t version = 1;            // of the format
  std::uint64_t required_features = 0;  // of the header; version 1 knows none
  std::vector<Q4Tensor> tensors;        // bytewise sorted by name
  std::vector<Q4EmbeddedFile> files;    // bytewise sorted by name
  SharedArray<Q4Chunk> chunks;          // in file order
  std::string provenance;               // one canonical JSON document, see docs/format.md
  std::uint32_t shard = 0;              // 0-based
  std::uint32_t shard_count = 1;
};

// What identifies and closes a container: fixed by Q4Writer::Finish(), checked by Q4Reader::Open().
struct Q4Seal {
  // SHA-256 over header and index, which lists every chunk's SHA-256 (F7.4): identifies every byte of the model.
  Sha256 root{};
  std::uint64_t file_bytes = 0;  // size of the file
  std::uint64_t index_offset = 0;
  std::uint64_t index_bytes = 0;
};

}  // namespace q4
