// Loads what a plan says (plan.h) into memory that the caller owns: reads, checks, decompresses, decodes, dequantizes
// and copies, on many threads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "libconvert/base/progress.h"
#include "libconvert/load/memory.h"
#include "libconvert/load/plan.h"

namespace q4 {

// What is checked of the payload. Header, index and footer are, always, when the model is opened.
enum class LoadCheck : std::uint8_t {
  kNone,    // nothing: for files that were checked a moment ago
  kXxh3,    // each chunk has its XXH3, each scale is finite: finds accidents and binds nothing to the root (F7.5)
  kSha256,  // and its SHA-256: what is loaded is what the model's root identifies (F7.4)
};

struct LoadFillOptions {
  LoadCheck check = LoadCheck::kXxh3;
  // The root that the model must have, from a signature or a lock file; nullopt: any. It is compared before anything is
  // read, and `check` is then kSha256, whatever it says: a root that was compared must be that of what is loaded.
  std::optional<Sha256> root;
  // A CUDA stream, a cudaStream_t, null being the default one: nothing is written before its work is done. For memory
  // of a framework's pool, which earlier kernels may still be using. nullopt: there is no such work. Of host memory
  // without meaning.
  std::optional<void*> after_stream;

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
  // Read past the page cache (O_DIRECT) what goes through slots and is neither compressed nor cut: for files that were
  // not read before and will not be again soon.
  bool uncached = false;
  // Memory of the device for codes and scales that wait to be dequantized, if no tensor needs more; the loader's own,
  // freed at the end. A larger one means fewer pauses. Forms that do not dequantize need none.
  std::uint64_t scratch_bytes = std::uint64_t{512} << 20;
  ProgressCallback progress;  // bytes are stored bytes
  CancelFlag* cancel = nullptr;
};

// The memory to load into: one place for each of LoadPlan::blocks, or, where `parts` is not empty, one for each of
// LoadPlan::parts. Addresses are multiples of 16 and of the LoadMemory that the load is given; places are at least as
// large as the plan says, and do not overlap. Of parts of 0 bytes nothing is looked at. In blocks, what lies between
// parts is overwritten too; of places of parts no byte but the part's own is written.
struct LoadPlaces {
  std::vector<std::span<std::uint8_t>> blocks;
  std::vector<std::span<std::uint8_t>> parts;
  // Of each of `parts`, whether the place is a private mapping of the file where StoredPlaceOf() says: nothing is read
  // then, and what is mapped is checked where it lies. Empty: none. Who maps a file gives up what RandomAccessFile
  // holds: a file that is truncated later is a signal when it is touched, and one that is written over changes what was
  // checked. Host memory only.
  std::vector<bool> mapped;
};

// That a fill with these options can begin: kLoadOption, kQ4OtherRoot. FillLoad() asks itself; for callers who want to
// know before they allocate.
absl::Status CheckFill(const LoadPlan& plan, const LoadFillOptions& options);

// Returns when every part is ready, with the number of stored bytes that were read of the files. After an error what
// the places hold is unspecified and must not be used; nothing writes to them any more, and nothing is left allocated.
//
// Errors, in the order of the files whatever the number of threads: exit code 6 for another root (kQ4OtherRoot) and for
// damage (kQ4ChunkDamaged, kQ4ChunkReplaced, kQ4ScaleValue), named by file, tensor, part and chunk; 2 when a file
// cannot be read, 3 when it has become shorter; 1 for an option that cannot be (kLoadOption) and for places that do not
// fit (kLoadPlace); 4 when memory does not suffice (kLoadHostMemory, kDeviceMemory) or the device fails
// (kDeviceFailed); 7 cancelled (kLoadInterrupted).
//
// Blocks; the calling thread is one of options.threads, and with memory of a GPU that becomes its current device.
// Progress is called on any of them, one call at a time. `plan`, its model and `memory` may serve several calls at
// once.
absl::StatusOr<std::uint64_t> FillLoad(const LoadPlan& plan, LoadMemory& memory, const LoadPlaces& places,
                                       const LoadFillOptions& options);

}  // namespace q4
