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
#include "libconvert/encode/encoder.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// One slab of a tensor on its way through an engine, used by one worker thread at a time. Takes one of three ways, each
// call once: ChooseScales() alone; Quantize() alone; or QuantizeAndKeep(), and Finish() when the tensor's scales are
// settled. Scales and codes are those that the tensor's encoder chooses; ChooseNested() stands in for ChooseScales()
// and QuantizeAndKeep() where scales are nested by an encoder that searches.
//
// All pointers are to host memory of the caller. `x`: the slab's elements in the source's type, in a buffer from
// buffer_memory(); it is shared only as long as it is needed. `scales`: BlockCount(n) of them, as chosen, before they
// are nested; `decoded`: as many, as a reader will get them. `codes`: replaced by PackedBytes(n) bytes. `statistics`:
// replaced; how many tiles they have depends on the engine, their sums do not. Errors are failures of a device
// (kDeviceFailed, exit code 4).
class SlabWork {
 public:
  virtual ~SlabWork() = default;

  // What a pass found: kAllFinite, or the index in the slab of the first NaN or infinite element. With the latter,
  // outputs are unspecified.
  using FirstBad = absl::StatusOr<std::uint64_t>;

  // Makes the scales alone: the first of two readings.
  virtual FirstBad ChooseScales(std::shared_ptr<Buffer> x, float* scales) = 0;

  // Makes codes and scales, and the statistics of `decoded` scales, or with nullptr those of the scales just made. This
  // is the only pass, or the second of two readings.
  virtual FirstBad Quantize(std::shared_ptr<Buffer> x, const float* decoded, std::vector<std::uint8_t>* codes,
                            float* scales, TiledStats* statistics) = 0;

  // The same in two halves: the scales now, codes and statistics once it is known how the scales decode. The elements
  // stay with this object, on the device that it works on, until Finish() or its destruction.
  virtual FirstBad QuantizeAndKeep(std::shared_ptr<Buffer> x, float* scales) = 0;
  virtual absl::Status Finish(const float* decoded, std::vector<std::uint8_t>* codes, TiledStats* statistics) = 0;

  // The first pass of a searching encoder with nested scales. With `keep` the elements stay until Finish(). An engine
  // without such an encoder refuses it (kDeviceEncoder).
  virtual FirstBad ChooseNested(std::shared_ptr<Buffer> x, bool keep, const NestedSlab& out);
  // After ChooseNested(): Finish() makes the codes that this encoder chooses instead.
  virtual void GiveWayTo(const Encoder& encoder);
};

// Which part of a tensor a slab is.
struct SlabPlace {
  std::uint64_t first = 0, elems = 0;  // `first` begins a slab of kSlabElems
  // Of an encoder that weighs errors, those of the whole tensor; nullptr for others.
  std::shared_ptr<const ColumnWeights> weights;
};

// Makes SlabWork, and says how much memory that takes and where. One object serves a whole conversion; it outlives its
// SlabWork. Thread-safe but for Begin().
class SlabEngine {
 public:
  virtual ~SlabEngine() = default;

  // Starts work on a slab of a tensor that is treated like `tensor`: its format, dtype and encoder matter, nothing
  // else. Waits until the device has the memory. One thread calls this, in plan order (budget.h says why). Error:
  // kDeviceMemory. REQUIRES: the encoder is one of Encoders(), slab.elems is 1 .. kSlabElems.
  virtual absl::StatusOr<std::unique_ptr<SlabWork>> Begin(const Q4Tensor& tensor, const SlabPlace& slab) = 0;

  // The codes of a whole tensor, where its encoder needs that (CodesNeedWholeTensor()): as ChooseFeedbackCodes(), whose
  // arguments these are, and on the cores unless an engine knows better. On the thread that calls Begin(). Errors also:
  // kDeviceMemory, kDeviceFailed.
  virtual absl::StatusOr<FeedbackResult> ChooseWhole(const FeedbackRun& run, const Q4Tensor& tensor,
                                                     const WeightInput& calibrated, const std::uint8_t* x,
                                                     const float* decoded, std::uint8_t* codes);
  // Host memory that it takes beside what it is given, on so many threads, in bytes.
  virtual std::uint64_t WholeMemory(const WeightInput& calibrated, unsigned threads) const;

  // Takes back a vector of codes that have been written, to be filled with those of a later slab: to get fresh pages
  // from the system costs as much as quantizing. Any vector of bytes will do.
  virtual void Recycle(std::vector<std::uint8_t> codes) = 0;

  // Where slabs wait between QuantizeAndKeep() and Finish(). true: in host memory, in their source buffers, which count
  // against the memory budget. false: on the devices.
  virtual bool keeps_on_host() const = 0;
  // Where they wait on the devices: the most source bytes that one tensor may have for it. A larger one is read twice.
  // 0 where they wait in host memory.
  virtual std::uint64_t device_keep_bytes() const = 0;

  // Where source buffers come from: memory that the device can copy from. Owned by the engine.
  virtual BufferMemory& buffer_memory() = 0;
  // Bytes of source buffers, out of `max_memory`, where making them is so slow that a few are used in turn, as a ring.
  // 0: there may be as many as the memory bound allows.
  virtual std::uint64_t RingBytes(std::uint64_t max_memory) const = 0;
  // Host memory that each worker thread needs while it works on a slab, beside the slab, in bytes.
  virtual std::uint64_t scratch_bytes_per_thread() const = 0;
};

// How many vectors of codes an engine keeps for later slabs, about 2 MiB each.
inline constexpr std::size_t kSpareCodes = 8;

// What a core needs while it works on a slab, in bytes: statistics by tile, and what is gathered while they are made.
// An upper bound: as much as the scales of a slab at the smallest block size, 512 KiB.
inline constexpr std::uint64_t kCpuSlabScratchBytes = kSlabElems / 32 * sizeof(float);

// The engine over this machine's cores: every call does its work on the calling thread. Begin() never waits and never
// fails. The table must outlive the engine. `effort`: of encoders that search.
std::unique_ptr<SlabEngine> MakeCpuSlabEngine(const KernelTable& kernels, int effort = kDefaultEffort);

}  // namespace q4
