// The memory that tensors are loaded into: this process's, or a GPU's. The loader (load.h) knows files and reaches
// devices through these interfaces only. Callers need MakeHostMemory(), MakeCudaMemory() and MemoryBlock; the rest is
// between the loader and the two implementations.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/scheme_layout.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {

// One allocation, freed with this object. It may outlive the LoadMemory that it came from. Not cleared, and not moved
// as long as it lives.
class MemoryBlock {
 public:
  virtual ~MemoryBlock() = default;
  MemoryBlock(const MemoryBlock&) = delete;
  MemoryBlock& operator=(const MemoryBlock&) = delete;
  // Aligned to 256 at least. An address of a GPU is not to be read by the host.
  std::uint8_t* data() const { return data_; }
  // The size that was asked for.
  std::uint64_t bytes() const { return bytes_; }

 protected:
  // The derived class frees what `data` points to.
  MemoryBlock(std::uint8_t* data, std::uint64_t bytes) : data_(data), bytes_(bytes) {}

 private:
  std::uint8_t* data_;
  std::uint64_t bytes_;
};

// Copies from host memory that the device can reach, in the order in which one thread asks for them. That memory is a
// number of equal slots: one is filled while the others are copied. Used by one thread at a time. Destroying it waits
// for the copies under way.
class CopyQueue {
 public:
  virtual ~CopyQueue() = default;
  // The slots, one after the other without a gap; the first one is aligned to 4096. The host may write them.
  virtual std::uint8_t* slots() = 0;
  // Begins to copy `bytes` of slot number `slot`, from its byte `skip` on, to the address `to` of the device. The slot
  // must stay untouched until Wait(slot) returns. kDeviceFailed. REQUIRES: skip + bytes is at most the slot's size.
  virtual absl::Status Copy(unsigned slot, std::uint64_t skip, std::uint64_t bytes, std::uint8_t* to) = 0;
  // Returns when the last copy of this slot is done, at once if there was none. kDeviceFailed, which may be the error
  // of an earlier copy.
  virtual absl::Status Wait(unsigned slot) = 0;
};

// One tensor to be dequantized (numerics Q6). Scheme, block size and nesting are those of QuantFormat. All pointers are
// into memory of the same LoadMemory.
struct DequantizeJob : QuantFormat {
  std::uint64_t elems = 0;
  const std::uint8_t* codes = nullptr;  // [ceil(elems / 2)]
  // In one of the two forms (stored_scales.h); the offset of nested scales by value, for kernels on the CPU.
  StoredScales scales;
  const float* offset_word = nullptr;  // the same offset, in that memory; null of fp32 scales
  FloatType out_type = FloatType::kF32;
  std::uint8_t* out = nullptr;  // [elems] of out_type, aligned to 16
};

// A place that tensors can be loaded to. Thread-safe. Errors have the issues of device_issues.h and load_issues.h.
class LoadMemory {
 public:
  virtual ~LoadMemory() = default;
  // "host", "cuda:0": for messages and reports.
  virtual std::string name() const = 0;
  // Whether the host can write the memory itself; then NewQueue() is not called.
  virtual bool host_writable() const = 0;
  // `bytes` bytes, not cleared; may be 0. kLoadHostMemory or kDeviceMemory if there are not so many.
  virtual absl::StatusOr<std::unique_ptr<MemoryBlock>> Allocate(std::uint64_t bytes) = 0;
  // A queue of its own for one thread: `slots` slots of `slot_bytes` each, in page-locked memory, which is slow to
  // make. kLoadHostMemory if there is too little. REQUIRES: slots >= 1, slot_bytes a multiple of 4096.
  virtual absl::StatusOr<std::unique_ptr<CopyQueue>> NewQueue(unsigned slots, std::uint64_t slot_bytes) = 0;
  // Returns when the work that the caller's stream has by now is done; of memory without streams at once.
  // kDeviceFailed.
  virtual absl::Status Await(void* /*stream*/) { return absl::OkStatus(); }
  // Returns when all jobs are done or, after an error, when none is under way any more. The result is the same bit for
  // bit on every device. `threads` is for memory whose kernels run on the CPU.
  virtual absl::Status Dequantize(std::span<const DequantizeJob> jobs, unsigned threads) = 0;
  // Copies to.size() bytes from the address `from` of this memory; returns when they are there.
  virtual absl::Status CopyToHost(const void* from, std::span<std::uint8_t> to) = 0;
};

// The memory of this process: files are read into their place, and dequantized by `kernels`, which must outlive it.
std::unique_ptr<LoadMemory> MakeHostMemory(const KernelTable& kernels = BestCpuKernels());

// The memory of a CUDA device. Starts the device if no one did, which takes a moment; nothing is allocated. Error
// codes: 5 in a build without CUDA, 4 when there is no such device or it does not work; the message has CUDA's text.
// Calls change the calling thread's current device.
absl::StatusOr<std::unique_ptr<LoadMemory>> MakeCudaMemory(int device);

}  // namespace q4
