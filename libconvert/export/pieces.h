// The work of an export, cut into pieces: each makes one run of bytes of one tensor of the new checkpoint. Pieces
// follow the container's chunks, so that each chunk is read once and memory is bounded whatever a tensor's size.
// Internal to libconvert/export/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/base/chunk_cache.h"

namespace q4 {

// A tensor of the new checkpoint.
struct ExportTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t bytes = 0;
  std::uint32_t group = 0;  // tensors of one group lie in the same weight file; groups ascend
};

enum class PieceKind : std::uint8_t {
  kStored,     // chunk `chunk` of `part`, as it is
  kConverted,  // chunk `chunk` of kData, in the new tensor's dtype
  kDecoded,    // the elements of code chunk `chunk`, in the new tensor's dtype
  kBytes,      // what `make_bytes` says: tables and texts that follow from a tensor's settings
};

// The whole of a small target, as many bytes as the target has. Pure.
using MakeBytes = std::vector<std::uint8_t> (*)(const Q4Tensor& tensor);

struct ExportPiece {
  PieceKind kind = PieceKind::kStored;
  Q4Part part = Q4Part::kData;     // of kStored
  std::uint32_t source = 0;        // index into ExportPlan::sources
  std::uint32_t target = 0;        // index into ExportPlan::targets
  std::uint64_t chunk = 0;         // counted inside the part
  std::uint64_t offset = 0;        // of the bytes inside the target
  MakeBytes make_bytes = nullptr;  // of kBytes
};

struct ExportSource {
  const Q4Reader* reader = nullptr;
  const Q4Tensor* tensor = nullptr;
};

// Everything that will be written to weight files, in the order of the work: source by source.
struct ExportPlan {
  std::vector<ExportSource> sources;
  std::vector<ExportTensor> targets;
  std::vector<ExportPiece> pieces;
};

// Adds a target that is `part` of source `source` as it is stored, and its pieces.
void AddStoredTarget(std::uint32_t source, Q4Part part, ExportTensor target, ExportPlan* plan);
// Adds a target for source `source`, which holds F32, F16 or BF16 values, converted or decoded to the target's dtype.
void AddConvertedTarget(std::uint32_t source, ExportTensor target, ExportPlan* plan);
// Adds a target of a single small piece. `make_bytes` makes target.bytes bytes of the source's tensor.
void AddBytesTarget(std::uint32_t source, MakeBytes make_bytes, ExportTensor target, ExportPlan* plan);

// The most bytes that one piece needs while it is made, and that its result takes.
inline constexpr std::uint64_t kPieceScratchBytes = std::uint64_t{24} << 20;
inline constexpr std::uint64_t kPieceResultBytes = kQ4ChunkElems * 4;

struct PieceBytes {
  std::vector<std::uint8_t> bytes;
  std::uint64_t overflowed = 0;  // elements that are finite in the source and infinite here
};

// Makes the bytes of one piece. Thread-safe. Fails if the container cannot be read or is damaged.
absl::StatusOr<PieceBytes> MakePiece(const ExportPlan& plan, const ExportPiece& piece, const KernelTable& kernels,
                                     ChunkCache* cache);

}  // namespace q4
