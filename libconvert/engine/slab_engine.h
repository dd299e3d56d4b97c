// Where slabs are worked on: the cores of this machine, or GPUs. The pipeline asks an engine and never knows which one
// it has; every engine gives the same bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "kernels/kernels.h"
#include "libconvert/base/budget.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// One slab of a tensor on its way through an engine, used by one worker thread at a time. Scales and codes are those
// that the tensor's encoder chooses. All pointers are to host memory. `scales`: BlockCount(n) of them, as chosen,
// before they are nested; `decoded`: as many, as a reader will get them. Errors are failures of a device (exit code 4).
class SlabWork {
 public:
  virtual ~SlabWork() = default;

  // What a pass found: kAllFinite, or the index in the slab of the first NaN or infinite element. With the latter,
  // outputs are unspecified.
  using FirstBad = absl::StatusOr<std::uint64_t>;

  // Makes the scales alone.
  virtual FirstBad ChooseScales(std::shared_ptr<Buffer> x, float* scales) = 0;

  // Makes codes and scales, and the statistics of `decoded` scales, or with nullptr those of the scales just made.
  virtual FirstBad Quantize(std::shared_ptr<Buffer> x, const float* decoded, std::vector<std::uint8_t>* codes,
                            float* scales, TiledStats* statistics) = 0;

  // The same in two halves: the scales now, codes and statistics once it is known how the scales decode. The elements
  // stay with this object, on the device that it works on.
  virtual FirstBad QuantizeAndKeep(std::shared_ptr<Buffer> x, float* scales) = 0;
  virtual absl::Status Finish(const float* decoded, std::vector<std::uint8_t>* codes, TiledStats* statistics) = 0;
};

class SlabEngine {
 public:
  virtual ~SlabEngine() = default;

  // Starts work on a slab of `elems` elements of a tensor that is treated like `tensor`: its format, dtype and encoder
  // matter, nothing else. Waits until the device has the memory. One thread calls this, in plan order (budget.h says
  // why). REQUIRES: the encoder is one of Encoders().
  virtual absl::StatusOr<std::unique_ptr<SlabWork>> Begin(const Q4Tensor& tensor, std::uint64_t elems) = 0;

  // Takes back a vector of codes that have been written, to be filled with those of a later slab: to get fresh pages
  // from the system costs as much as quantizing.
  virtual void Recycle(std::vector<std::uint8_t> codes) = 0;

  // Where slabs are between QuantizeAndKeep() and Finish(): in host memory, in their source buffers, or on the devices,
  // which can keep the given number of source bytes.
  virtual bool keeps_on_host() const = 0;
  virtual std::uint64_t device_keep_bytes() const = 0;

  // Where source buffers come from: memory that the device can copy from.
  virtual BufferMemory& buffer_memory() = 0;
  // Bytes of source buffers, out of `max_memory`, where making them is so slow that a few are used in turn, as a ring.
  // 0: there may be as many as the memory bound allows.
  virtual std::uint64_t RingBytes(std::uint64_t max_memory) const = 0;
  // Host memory that each worker thread needs while it works on a slab, beside the slab.
  virtual std::uint64_t scratch_bytes_per_thread() const = 0;
};

// How many vectors of codes an engine keeps for later slabs.
inline constexpr std::size_t kSpareCodes = 8;

// Statistics of a slab by tile, and what is gathered while they are made.
inline constexpr std::uint64_t kCpuSlabScratchBytes = kSlabElems / 32 * sizeof(float);

// The engine over this machine's cores. The table must outlive it.
std::unique_ptr<SlabEngine> MakeCpuSlabEngine(const KernelTable& kernels);

}  // namespace q4
