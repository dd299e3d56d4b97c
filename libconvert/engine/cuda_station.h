// What the CUDA engine is made of: a device with its budget of memory, and stations, which hold what a step needs while
// it runs, whatever the slab. Internal to the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "kernels/nested_loss.h"
#include "libconvert/base/budget.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// kDeviceFailed with CUDA's text, where something failed.
absl::Status Checked(const cuda::KernelError& error, int device);

// ---- memory

// Page-locked: the device copies from it directly, and a copy does not stop the thread that asks for it.
class PinnedMemory : public BufferMemory {
 public:
  std::uint8_t* Allocate(std::uint64_t bytes) override;
  void Free(std::uint8_t* data) override { cuda::FreePinned(data); }
};

// Memory of one device. Its buffers are not to be touched by the host. One thread allocates on several devices in turn,
// so the device is made current each time; to free, CUDA needs only the address.
class DeviceMemory : public BufferMemory {
 public:
  explicit DeviceMemory(int device) : device_(device) {}
  std::uint8_t* Allocate(std::uint64_t bytes) override;
  void Free(std::uint8_t* data) override { cuda::FreeOnDevice(data); }

 private:
  const int device_;
};

// ---- stations

// What one slab needs while it is worked on, at the smallest block size; each array begins at a multiple of 256 bytes.
// The host's side has the codes too, because copies to memory that is not page-locked wait for the device.
inline constexpr std::uint64_t kMaxBlocks = kSlabElems / 32;
inline constexpr std::uint64_t kMaxGroups = kMaxBlocks / kScaleGroup;

// Of an encoder that searches, with nested scales.
struct NestedResults {
  alignas(256) std::uint8_t scale_codes[kMaxBlocks];
  alignas(256) float group_scales[kMaxGroups];
  alignas(256) NestedLoss losses[kMaxGroups];
};

// Results as they arrive on the host, from where they are copied on to the caller's vectors.
struct HostStation {
  alignas(256) std::uint8_t codes[kSlabElems / 2];
  alignas(256) float scales[kMaxBlocks];
  alignas(256) GroupSums groups[kMaxGroups];
  alignas(256) SlabStats stats;
  alignas(256) std::uint64_t first_bad;
  NestedResults nested;
};

// Results as the kernels write them. Codes are missing: they lie with the slab, which can need them in a later step.
struct DeviceStation {
  alignas(256) float scales[kMaxBlocks];
  alignas(256) float decoded[kMaxBlocks];
  alignas(256) GroupSums groups[kMaxGroups];
  alignas(256) SlabStats stats;
  alignas(256) std::uint64_t first_bad;
  NestedResults nested;
  // What a search leaves for what follows it.
  alignas(256) float absmax[kMaxBlocks];
  alignas(256) double floors[kMaxBlocks];
  alignas(256) float zero;
};

// Made when a step finds none idle, and used again by later steps; so there are as many on a device as there were steps
// at the same time, at most one for each worker thread.
struct Station {
  cuda::Stream stream;
  cuda::PinnedBuffer host_memory;
  cuda::DeviceBuffer device_memory, workspace;
  HostStation& host() const { return *static_cast<HostStation*>(host_memory.data()); }
  // Only addresses of its members are ever taken.
  DeviceStation& device() const { return *static_cast<DeviceStation*>(device_memory.data()); }
};

// One GPU: what its slabs may take of its memory, and the stations that no step is using. Stations are not counted in
// the budget; the fifth of the free memory that is left out of it is for them and for CUDA itself.
struct Device {
  Device(int number, std::uint64_t memory_bytes)
      : ordinal(number), budget(memory_bytes), memory(number), pool(&budget, &memory) {}

  const int ordinal;
  MemoryBudget budget;
  DeviceMemory memory;
  BufferPool pool;
  std::mutex mutex;  // guards idle
  std::vector<std::unique_ptr<Station>> idle;
};

// kDeviceMemory of a device that has less than it promised: another process took it.
absl::Status TakenMemory(const Device& device);

// A station for the time of one step, with its device made the calling thread's current one. When the step ends early,
// what it began is waited for: its copies read and write memory that others will use.
class HeldStation {
 public:
  static absl::StatusOr<HeldStation> Take(Device& device);
  HeldStation(HeldStation&&) = default;
  HeldStation& operator=(HeldStation&&) = delete;
  ~HeldStation();

  Station* operator->() const { return station_.get(); }
  cuda::StreamHandle stream() const { return station_->stream.handle(); }

  // Notes what came of a piece of work; the first failure counts, because later ones are mostly its consequences.
  // Callers need not look in between: Finish() tells.
  void Do(const cuda::KernelError& error) {
    if (first_error_.ok()) first_error_ = error;
  }
  void ToDevice(void* to, const void* from, std::uint64_t bytes) { Do(cuda::CopyToDevice(to, from, bytes, stream())); }
  void ToHost(void* to, const void* from, std::uint64_t bytes) { Do(cuda::CopyToHost(to, from, bytes, stream())); }

  // Waits for all that was begun.
  absl::Status Finish();

 private:
  HeldStation(Device& device, std::unique_ptr<Station> station) : device_(device), station_(std::move(station)) {}
  Device& device_;
  std::unique_ptr<Station> station_;
  cuda::KernelError first_error_;
  bool busy_ = true;  // something may be under way on the stream
};

}  // namespace q4
