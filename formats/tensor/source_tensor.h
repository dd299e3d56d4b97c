// A tensor of a checkpoint as everybody but its reader sees it: elements of one type and shape, wherever and however
// the files hold them. A reader of a format makes these descriptions; no payload is in them.
// libconvert/source/source_reader.h turns them into elements.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "formats/tensor/tensor.h"

namespace q4 {

struct BnbSource;  // formats/bnb/taken_over.h

// How the elements come out of the stored bytes. A reader of another kind of file adds its recipe here and carries it
// out in SourceReader (libconvert/source/source_reader.h); policy, plan, pipeline, verifier and inspector see elements.
enum class SourceRecipe : std::uint8_t {
  kPlain,     // the one extent is the elements, row-major, little-endian
  kStrided,   // the elements lie apart in the one extent, as SourceTensor::strides says
  kScaledF8,  // a byte for each element, an 8-bit float, times a scale: SourceTensor::scaled
  kPackedF4,  // half a byte for each element, a 4-bit float, times the scale of its block: SourceTensor::packed
  kMerged,    // a weight, itself of any recipe but kBnbCodes, changed by an adapter: SourceTensor::merged
  // No elements are read at all: the files hold 4-bit codes with their scales, which are taken over as they are.
  // SourceTensor::bnb says where (formats/bnb/taken_over.h).
  kBnbCodes,
  // The file computes the elements when it is asked for the extent, which lies behind its end: those of a .q4 container
  // that is quantized again (libconvert/requantize).
  kComputed,
};

// An extent: consecutive bytes of one file.
struct SourceExtent {
  std::uint32_t file = 0;    // index into Checkpoint::files()
  std::uint64_t offset = 0;  // of the first byte in that file
  std::uint64_t bytes = 0;   // how many; 0 for a tensor without elements

  std::uint64_t end() const { return offset + bytes; }  // cannot wrap once the reader has validated it
};

// A CRC-32 that a file gives for some of its own bytes (formats/base/crc32.h). Whoever reads them all compares.
struct SourceChecksum {
  std::uint64_t offset = 0;  // of the first byte in that file
  std::uint64_t bytes = 0;
  std::uint32_t crc32 = 0;
  std::string name;  // what the bytes are called there, for a message; untrusted text

  std::uint64_t end() const { return offset + bytes; }
};

// What kScaledF8 multiplies: docs/numerics.md, section Q13. The tensor is matrices of `rows` times `columns`, one after
// the other. The scale of an element in row r and column c of matrix m is number
//   m * matrix_step + r / block_rows * row_step + c / block_columns * column_step
// of the second extent; a step of 0 is one scale for all.
struct ScaledF8 {
  DType code = DType::kF8E4M3;  // or kF8E5M2: the first extent
  DType scale = DType::kF32;    // the second extent: F32, F16, BF16, F8_E8M0, or U8 for the exponents of E8M0
  DType product = DType::kF32;  // what a product is rounded to before it becomes an element: F32, F16 or BF16
  // None is 0 where the tensor has elements.
  std::uint64_t rows = 1, columns = 1, block_rows = 1, block_columns = 1;
  std::uint64_t matrix_step = 0, row_step = 0, column_step = 0;
  std::string scale_name;  // of the tensor of scales in the files; "": there is none, and all scales are 1
};

// What kPackedF4 multiplies: docs/numerics.md, section Q14. The tensor is matrices of `rows` times `columns`, one after
// the other. The first extent holds the codes, two in a byte, the one with the even index in the lower half; the second
// a byte for each block of `block` codes in a line, its scale; the third, if there is one, scales of whole matrices.
struct PackedF4 {
  // How codes lie in a matrix, and with them their blocks. Where a line of codes would be split in the middle of a byte
  // or a block, the reader has refused the tensor.
  enum class Order : std::uint8_t {
    kRows,        // as the elements do: [rows, columns / 2] bytes, [rows, columns / block] scales
    kColumns,     // a byte holds two of a column: [rows / 2, columns] bytes, [rows / block, columns] scales
    kTransposed,  // the elements are the transposed matrix: [columns, rows / 2] bytes, [columns, rows / block] scales
  };
  enum class Global : std::uint8_t { kNone, kFactor, kDivisor };
  Order order = Order::kRows;
  DType scale = DType::kF8E4M3;  // F8_E4M3; F8_E8M0, or U8 for the exponents of E8M0
  DType global = DType::kF32;    // the third extent: F32, F16 or BF16
  Global use = Global::kNone;    // what a block's scale is multiplied with or divided by
  DType joint = DType::kF32;     // what a block's scale is rounded to after that: F32 or BF16
  DType product = DType::kF32;   // what a product is rounded to before it becomes an element: F32 or BF16
  std::uint64_t rows = 1, columns = 1, block = 16;
  // Scales are added to the exponents of the values, so that 2^128 is no infinity: half of it is a number.
  bool shifts = false;
  std::uint64_t global_step = 0;        // 1: each matrix has a scale of its own; 0: one for all
  std::string code_name;                // of the tensor of codes in the files
  std::string scale_name, global_name;  // of the tensors of scales; "": there is none
};

struct SourceTensor;

// How a weight of DoRA is scaled, kept from one slab to the next: where its norms go over columns (MergedAdapter),
// each needs the whole weight. Filled by the first reader that needs it, under the lock.
struct MergedFactors {
  std::mutex mutex;
  std::vector<float> values;  // by column; empty until they are known
};

// What kMerged reads: docs/numerics.md, section Q15. The weight is a matrix of `rows` times `columns` as it is stored;
// to the element in row i and column j comes scale * sum over k of left(i, k) * right(k, j).
struct MergedAdapter {
  // Of the elements, shape and dtype of the tensor; or, where there is nothing to add, of the shape and any float
  // dtype.
  std::shared_ptr<const SourceTensor> base;
  // The factors: a is `rank` x columns and b is rows x `rank`; or, `transposed`, a is rank x rows and b columns x rank.
  // Both nullptr where nothing is added; a alone, as one row of `columns`, for what is added to a bias.
  std::shared_ptr<const SourceTensor> a, b;
  bool transposed = false;
  std::uint64_t rows = 1, columns = 1, rank = 0;
  float scale = 0;
  // DoRA: one for each row, or column if `transposed`. nullptr for all others, and then so is `factors`.
  std::shared_ptr<const SourceTensor> magnitude;
  std::shared_ptr<MergedFactors> factors;
};

// All fields are validated by the reader that made it: elems < 2^48, and every extent lies inside its file.
struct SourceTensor {
  std::string name;           // UTF-8, 1 to 4096 bytes; untrusted text: Printable() before it is shown
  DType dtype = DType::kF32;  // of the elements as they are read
  SourceRecipe recipe = SourceRecipe::kPlain;
  // Row-major, outermost dimension first, at most limits::kTensorDimensions of them; empty for a scalar.
  Shape shape;
  std::uint64_t elems = 0;  // product of shape; 1 for a scalar
  std::uint64_t bytes = 0;  // elems * ItemSize(dtype): of the elements as they are read, not as they are stored
  // What the files hold of it, at least one. Its place among the tensors is that of the first. kPlain: exactly one, of
  // `bytes` bytes. Empty only where nothing can be read: a tensor that was made up to ask the policy about it.
  absl::InlinedVector<SourceExtent, 1> extents;
  // kStrided: from one element to the next along each dimension of `shape`, in elements. The first element begins the
  // extent and the last one ends it. Else empty. Shared, so that a tensor costs little when it has none.
  std::shared_ptr<const Shape> strides;
  std::shared_ptr<const ScaledF8> scaled;       // of kScaledF8: codes, and scales if there are any; else nullptr
  std::shared_ptr<const PackedF4> packed;       // of kPackedF4; else nullptr
  std::shared_ptr<const BnbSource> bnb;         // of kBnbCodes; nullptr for all others
  std::shared_ptr<const MergedAdapter> merged;  // of kMerged; nullptr for all others

  // Where it begins. REQUIRES: the tensor has an extent. Valid as long as the tensor.
  const SourceExtent& place() const { return extents.front(); }
  // Whether its elements are the bytes of its extent, so that a digest of the file can use what was read of it.
  bool is_stored() const { return recipe == SourceRecipe::kPlain; }
  // What it occupies in the files, in bytes; `bytes` is what its elements take in memory.
  std::uint64_t stored_bytes() const {
    std::uint64_t sum = 0;
    for (const SourceExtent& extent : extents) sum += extent.bytes;
    return sum;
  }
};

// Of a tensor that is not stored as it is read: the names of the tensors in the files that it is made of, codes first,
// and the type of their elements: of kMerged the weight, as it is stored, and the adapter's. Empty for kPlain.
// Untrusted text, as names are.
struct StoredParts {
  std::vector<std::string_view> names;  // live as long as the tensor
  DType dtype = DType::kF32;            // of the first
  bool merged = false;                  // kMerged
};
StoredParts StoredPartsOf(const SourceTensor& tensor);

}  // namespace q4
