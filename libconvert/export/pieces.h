// The work of an export, cut into pieces: each makes one range of bytes of one tensor of the new checkpoint. An
// exporter plans them with the Add functions, ExportModel() makes them with MakePiece() on all threads and writes them.
// Pieces follow the container's chunks, so that each chunk is read once and memory is bounded whatever a tensor's size.
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
#include "libconvert/model/bnb_record.h"

namespace q4 {

// A tensor of the new checkpoint.
struct ExportTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t bytes = 0;  // of the shape, without padding
  // Tensors with one number lie in the same weight file: those that came of one source. Numbers ascend in a plan.
  std::uint32_t group = 0;
};

// How the bytes of a piece come about. All but kBytes read the container.
enum class PieceKind : std::uint8_t {
  kStored,     // chunk `chunk` of `part`, as it is
  kConverted,  // chunk `chunk` of kData, in the new tensor's dtype
  kDecoded,    // the elements of code chunk `chunk`, in the new tensor's dtype
  kBytes,      // what `make_bytes` says: tables and texts that follow from a tensor's settings
};

// The whole of a small target, as many bytes as the target has. `record`: ExportPlan::bnb. Pure.
using MakeBytes = std::vector<std::uint8_t> (*)(const Q4Tensor& tensor, const BnbRecord& record);

// One range of bytes of one target. Fields that name a kind are without meaning for others.
struct ExportPiece {
  PieceKind kind = PieceKind::kStored;
  Q4Part part = Q4Part::kData;     // that is read; without meaning for kBytes
  std::uint32_t source = 0;        // index into ExportPlan::sources
  std::uint32_t target = 0;        // index into ExportPlan::targets
  std::uint64_t chunk = 0;         // counted inside the part
  std::uint64_t offset = 0;        // of the bytes inside the target
  MakeBytes make_bytes = nullptr;  // of kBytes
};

// A tensor of the container, and the shard that it lies in. Both belong to the Q4Model, which must outlive the plan.
struct ExportSource {
  const Q4Reader* reader = nullptr;
  const Q4Tensor* tensor = nullptr;  // of reader->index()
  bool fused_expert = false;         // a weight of experts that loaders hold fused (policy/experts.h)
  // Why a loader does not hold it in 4 bits: what it is instead of a linear layer's weight (policy/loadable.h), or "".
  std::string no_linear_layer = {};
  bool outside_model = false;  // of a module that transformers does not load (policy/transformers_folders.h)
  // Written as codes and scales. Set by the exporter's Plan(); never of a tensor that the container keeps.
  bool stays_quantized = false;
};

// Everything that will be written to weight files, in the order of the work: source by source. The pieces of a target
// cover it without gap or overlap. ExportModel() fills `sources` and what it says of the
// model, the exporter the rest.
struct ExportPlan {
  std::vector<ExportSource> sources;
  bool is_component = false;    // of a diffusers pipeline (policy/diffusers.h)
  bool splits_experts = false;  // loaders of quantized checkpoints do not hold the model's experts fused after all
  BnbRecord bnb;                // of weights that were taken over from bitsandbytes
  std::vector<ExportTensor> targets;
  std::vector<std::uint32_t> files;  // of each target the number of its weight file; empty: they are cut by size
  std::vector<ExportPiece> pieces;
};

// The three ways to add a target with its pieces. `source` is an index into plan->sources; sources come in order. Pure.

// Adds a target that is `part` of the source as the container stores it, after decompression. REQUIRES: target.bytes is
// the size of the part.
void AddStoredTarget(std::uint32_t source, Q4Part part, ExportTensor target, ExportPlan* plan);
// Adds a target for a source of dtype F32, F16 or BF16: quantized codes are decoded (numerics Q6), kept elements are
// converted to the target's dtype, which is one of these three as well.
void AddConvertedTarget(std::uint32_t source, ExportTensor target, ExportPlan* plan);
// Adds a target of a single small piece. `make_bytes` makes target.bytes bytes of the source's tensor.
void AddBytesTarget(std::uint32_t source, MakeBytes make_bytes, ExportTensor target, ExportPlan* plan);

// The most bytes that one piece needs while it is made beside the cache, and that its result takes: 2^22 elements of
// fp32. ExportModel() derives from both how many threads a memory limit allows.
inline constexpr std::uint64_t kPieceScratchBytes = std::uint64_t{24} << 20;
inline constexpr std::uint64_t kPieceResultBytes = kQ4ChunkElems * 4;

// What MakePiece() made.
struct PieceBytes {
  std::vector<std::uint8_t> bytes;  // little-endian; they go to piece.offset of the target
  std::uint64_t overflowed = 0;     // elements that are finite in the source and infinite here
};

// Makes the bytes of one piece of `plan`. Thread-safe: pieces are made side by side and share `cache`, which should be
// one for all, so that chunks of scales are decompressed once. Wants the canonical float environment (kernels.h).
//
// Errors: those of Q4Reader::ReadChunk(), and kQ4ScaleValue for a scale that is not finite (F3.6); exit code 6 for
// damage, 2 where the file cannot be read. What kBytes makes cannot fail.
absl::StatusOr<PieceBytes> MakePiece(const ExportPlan& plan, const ExportPiece& piece, const KernelTable& kernels,
                                     ChunkCache* cache);

}  // namespace q4
