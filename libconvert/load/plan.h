// What a load will bring and how much memory it needs, part by part, from the index alone: for callers that load into
// memory of their own, such as a framework's allocator. fill.h then loads into it; load.h does both with memory of the
// loader's own.
//
//   Q4_ASSIGN_OR_RETURN(const LoadPlan plan, PlanLoad(*model, {}));
//   // memory for each of plan.blocks, or for each of plan.parts
//   Q4_ASSIGN_OR_RETURN(const std::uint64_t read, FillLoad(plan, *memory, places, {}));
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/tensor/tensor.h"
#include "libconvert/load/slice.h"

namespace q4 {

// What becomes of quantized tensors. Tensors that the container keeps unquantized are always loaded as they are.
enum class LoadForm : std::uint8_t {
  kQuantized,   // codes and scales, as the container has them
  kFlatScales,  // codes and fp32 scales: nested scales are decoded (numerics Q5.5)
  kSource,      // dequantized to the dtype that the tensor had before it was quantized
  kF32,         // dequantized to this type
  kF16,
  kBF16,
};

// What is to be loaded.
struct LoadPlanOptions {
  std::vector<std::string> tensors;  // names of those wanted, each of which the model must have; empty: all
  // Of these tensors, which must be among those wanted, only a part; at most one slice of a tensor. slice.h says which
  // slices there are. A slice that cuts a group of 256 blocks has fp32 scales where the tensor has nested ones.
  std::vector<LoadSlice> slices;
  LoadForm form = LoadForm::kQuantized;
  // The most that a block of memory has, a multiple of 4096, unless a single part is larger. At 512 MiB and less,
  // memory that a framework's allocator has in reserve can serve it.
  std::uint64_t block_bytes = std::uint64_t{512} << 20;
};

// docs/format.md F3.4 says what the parts of a quantized tensor hold. A tensor has kValues; or kCodes and kScales; or
// kCodes, kScaleCodes, kScales2 and kOffset.
enum class LoadPartKind : std::uint8_t {
  kValues,      // elements, row-major
  kCodes,       // two to a byte, the first one in the high nibble
  kScales,      // fp32, one per block
  kScaleCodes,  // one per block
  kScales2,     // fp32, one per 256 blocks
  kOffset,      // fp32, one: the nested offset
};
std::string_view LoadPartName(LoadPartKind kind);  // "codes", ...: static

// One array in memory, and its place where it is loaded into blocks.
struct LoadPart {
  std::size_t tensor = 0;  // index into LoadPlan::tensors
  LoadPartKind kind = LoadPartKind::kValues;
  DType dtype = DType::kU8;  // U8 of codes and scale codes, F32 of all kinds of scales
  Shape shape;               // of values that of the tensor; [] of the offset; of others one dimension
  std::uint64_t bytes = 0;   // 0 without elements: then there is no place, and block and offset mean nothing
  std::size_t block = 0;     // index into LoadPlan::blocks
  std::uint64_t offset = 0;  // in the block, a multiple of 256
};

// One tensor, or the slice of it that was asked for.
struct LoadPlanTensor {
  Q4Model::Location at;
  const Q4Tensor* entry = nullptr;  // of the container: name, source dtype, scheme, block size; of the whole tensor
  Runs runs;                        // the elements that are loaded
  Shape shape;                      // of what is loaded
  std::uint64_t elems = 0;          // of what is loaded
  DType dtype = DType::kF32;        // of the values; without values, that of the source
  bool dequantized = false;         // values instead of codes and scales
  bool nested = false;              // whether the scales that are loaded are
  std::size_t first_part = 0, part_count = 0;  // in LoadPlan::parts
};

// The layout of a load. Belongs to a model, which must outlive it; is changed by nobody. Any number of loads may use it
// at once.
struct LoadPlan {
  const Q4Model* model = nullptr;
  LoadForm form = LoadForm::kQuantized;
  std::vector<LoadPlanTensor> tensors;  // bytewise sorted by name
  std::vector<LoadPart> parts;          // tensor by tensor, in the order of LoadPartKind
  std::vector<std::uint64_t> blocks;    // bytes of each
  std::vector<std::size_t> file_order;  // numbers of tensors, in the order in which they are read

  // nullptr when no such tensor is loaded. Binary search.
  const LoadPlanTensor* Find(std::string_view name) const;
  std::span<const LoadPart> PartsOf(const LoadPlanTensor& tensor) const {
    return std::span(parts).subspan(tensor.first_part, tensor.part_count);
  }
};

// Where the file of a shard holds a part as it is loaded.
struct StoredPlace {
  std::size_t shard = 0;     // index into Q4Model::shards()
  std::uint64_t offset = 0;  // in its file, a multiple of 64
};

// nullopt of a part that is not stored so: compressed, decoded or dequantized on the way, cut by a slice, the nested
// offset, or of 0 bytes. `part`: index into plan.parts.
std::optional<StoredPlace> StoredPlaceOf(const LoadPlan& plan, std::size_t part);

// The same model and options give the same plan. Reads nothing. In blocks, what is not compressed lies as in the file
// (F3.3), but for parts behind the first of a tensor, which begin at multiples of 256: so it can be read and copied in
// long pieces. Bytes between the parts are unspecified.
//
// Errors, with exit code 1: kLoadNoSuchTensor, kLoadSlice, kLoadOption.
absl::StatusOr<LoadPlan> PlanLoad(const Q4Model& model, const LoadPlanOptions& options);

}  // namespace q4
