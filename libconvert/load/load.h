// Brings the tensors of a .q4 model into memory, of this process or of a GPU: the loader's API in C++. q4_loader_c.h is
// the same in C. docs/loading.md has an example and says how it works and what bounds its speed.
//
//   Q4_ASSIGN_OR_RETURN(const auto model, Q4Model::Open(PosixFileSystem(), "model.q4"));
//   Q4_ASSIGN_OR_RETURN(const auto memory, MakeCudaMemory(0));
//   Q4_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(*model, *memory, {}));
//   const LoadedTensor* q_proj = loaded.Find("model.layers.0.self_attn.q_proj.weight");
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/tensor/tensor.h"
#include "libconvert/base/progress.h"
#include "libconvert/load/memory.h"

namespace q4 {

// What becomes of quantized tensors. Tensors that the container keeps unquantized are always loaded as they are.
enum class LoadForm : std::uint8_t {
  kQuantized,  // codes and scales
  kSource,     // dequantized to the dtype that the tensor had before it was quantized
  kF32,        // dequantized to this type
  kF16,
  kBF16,
};

// What is checked of the payload. Header, index and footer are, always, when the model is opened.
enum class LoadCheck : std::uint8_t {
  kNone,    // nothing: for files that were checked a moment ago
  kXxh3,    // each chunk has its XXH3, each scale is finite: finds accidents and binds nothing to the root (F7.5)
  kSha256,  // and its SHA-256: what is loaded is what the model's root identifies (F7.4)
};

struct LoadOptions {
  std::vector<std::string> tensors;  // names of those wanted, each of which the model must have; empty: all
  LoadForm form = LoadForm::kQuantized;
  LoadCheck check = LoadCheck::kXxh3;
  // The root that the model must have, from a signature or a lock file; nullopt: any. It is compared before anything is
  // read, and `check` is then kSha256, whatever it says: a root that was compared must be that of what is loaded.
  std::optional<Sha256> root;

  // How the work is done; none of this changes what is loaded.
  unsigned threads =
      0;  // that read, check and decompress; 0: all cores that this process may use (machine.h), but not more than 16
  // Every thread has `slots` pieces of memory that the device copies from, of `slot_bytes` each, a multiple of 4096. A
  // read is at most so long. Making that memory takes about 0.3 s for 1 GB. Host memory needs no slots.
  std::uint64_t slot_bytes = std::uint64_t{2} << 20;
  unsigned slots = 2;
  // The system is asked to read this far ahead of the threads. It pays where the file is not in the page cache and
  // costs a little where it is. 0: not at all.
  std::uint64_t prefetch_bytes = 0;
  // Read past the page cache (O_DIRECT) what goes through slots and is not compressed: for files that were not read
  // before and will not be again soon.
  bool uncached = false;
  // Memory for codes and scales that wait to be dequantized, if no tensor needs more. A larger one means fewer pauses.
  std::uint64_t scratch_bytes = std::uint64_t{512} << 20;
  ProgressCallback progress;  // bytes are stored bytes
  CancelFlag* cancel = nullptr;
};

// One tensor in memory. Either `values` is set, or `codes` and scales; a tensor without elements has neither. Pointers
// are into LoadedModel::memory and aligned to 64.
struct LoadedTensor {
  Q4Tensor entry;  // what the container says of it: name, shape, source dtype, scheme, block size, statistics

  // Kept tensors, and all in a dequantized form: elements, row-major.
  DType dtype = DType::kF32;  // of the values; without values, that of the source
  const std::uint8_t* values = nullptr;
  std::uint64_t value_bytes = 0;

  // Quantized tensors: docs/format.md F3.4 says what each holds.
  const std::uint8_t* codes = nullptr;        // [ceil(elems / 2)]
  const float* scales = nullptr;              // [blocks], fp32; null if nested:
  const std::uint8_t* scale_codes = nullptr;  // [blocks]
  const float* scales2 = nullptr;             // [ceil(blocks / 256)], the group scales
  const float* nested_offset = nullptr;       // [1]; entry.nested_offset is the same on the host
};

// What was loaded. The pointers live as long as this does; it needs neither the Q4Model nor the LoadMemory any more.
struct LoadedModel {
  std::vector<LoadedTensor> tensors;    // bytewise sorted by name
  std::unique_ptr<MemoryBlock> memory;  // all of them lie in it
  std::uint64_t read_bytes = 0;         // of the files, by this call: the stored chunks

  // nullptr when no such tensor was loaded. Binary search. Lives as long as this.
  const LoadedTensor* Find(std::string_view name) const;
};

// Returns when every tensor is ready. On an error nothing is left allocated.
//
// The layout of the memory is that of an uncompressed container (F3.3): segments at multiples of 4096, parts at
// multiples of 64, so that what is stored uncompressed is read and copied in long extents. Bytes between the tensors
// are unspecified.
//
// Errors, in the order of the files whatever the number of threads: exit code 6 for another root (kQ4OtherRoot) and for
// damage (kQ4ChunkDamaged, kQ4ChunkReplaced, kQ4ScaleValue), named by file, tensor, part and chunk; 2 when a file
// cannot be read, 3 when it has become shorter; 1 for a name or an option that cannot be (kLoadNoSuchTensor,
// kLoadOption); 4 when memory does not suffice (kLoadHostMemory, kDeviceMemory) or the device fails (kDeviceFailed); 7
// cancelled (kLoadInterrupted).
//
// Blocks; the calling thread is one of options.threads, and progress is called on any of them, one call at a time.
// `model` and `memory` may serve several calls at once.
absl::StatusOr<LoadedModel> LoadModel(const Q4Model& model, LoadMemory& memory, const LoadOptions& options);

}  // namespace q4
