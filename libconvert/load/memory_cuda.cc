// LoadMemory through the CUDA runtime. The current device belongs to a thread, and the loader's threads come and go, so
// each call first chooses its device. cuda_runtime.h owns what the runtime gives out; here its errors become statuses.
#include <algorithm>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "libconvert/engine/device_issues.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/load/memory.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

constexpr int kOutOfMemory = 2;  // cudaErrorMemoryAllocation

std::string DeviceName(int device) { return fmt::format("cuda:{}", device); }

// The status of a call of the CUDA runtime.
// kDeviceFailed, with the name of the call and the runtime's own text.
absl::Status StatusOf(int device, const cuda::KernelError& error) {
  if (error.ok()) return absl::OkStatus();
  return Fail(kDeviceFailed, DeviceName(device), error.what, cuda::ErrorText(error));
}

// Frees the memory when it goes; cudaFree takes the address of any device, so none has to be chosen.
class CudaBlock final : public MemoryBlock {
 public:
  explicit CudaBlock(cuda::DeviceBuffer buffer)
      : MemoryBlock(buffer.as<std::uint8_t>(), buffer.size()), buffer_(std::move(buffer)) {}

 private:
  cuda::DeviceBuffer buffer_;
};

// Page-locked slots, a stream of its own so that queues of different threads do not wait for each other, and an event
// for each slot. An event stands for the last copy from its slot.
class CudaQueue final : public CopyQueue {
 public:
  static absl::StatusOr<std::unique_ptr<CopyQueue>> Create(int device, unsigned slots, std::uint64_t slot_bytes) {
    std::unique_ptr<CudaQueue> queue(new CudaQueue(device, slot_bytes));
    // Memory, stream and events belong to the device that is current when they are made.
    Q4_RETURN_IF_ERROR(queue->Choose());
    // Page-locked memory is the host's, so it is the host that has too little.
    if (const cuda::KernelError error = queue->slots_.Allocate(slots * slot_bytes); !error.ok()) {
      return Fail(kLoadHostMemory, DeviceName(device), "page-locked memory",
                  fmt::format("{} bytes wanted: {}", slots * slot_bytes, cuda::ErrorText(error)));
    }
    Q4_RETURN_IF_ERROR(StatusOf(device, queue->stream_.Create()));
    queue->copied_.resize(slots);
    for (cuda::Event& event : queue->copied_) Q4_RETURN_IF_ERROR(StatusOf(device, event.Create()));
    return queue;
  }

  // The slots are freed after this; a copy may still be reading them.
  ~CudaQueue() override {
    if (stream_.handle() != nullptr) cuda::Synchronize(stream_.handle());
  }

  std::uint8_t* slots() override { return static_cast<std::uint8_t*>(slots_.data()); }

  // The event is recorded behind the copy on the same stream, so it is reached when the copy is done.
  absl::Status Copy(unsigned slot, std::uint64_t skip, std::uint64_t bytes, std::uint8_t* to) override {
    Q4_RETURN_IF_ERROR(Choose());
    const std::uint8_t* const from = slots() + slot * slot_bytes_ + skip;
    Q4_RETURN_IF_ERROR(StatusOf(device_, cuda::CopyToDevice(to, from, bytes, stream_.handle())));
    return StatusOf(device_, copied_[slot].Record(stream_.handle()));
  }

  absl::Status Wait(unsigned slot) override {
    Q4_RETURN_IF_ERROR(Choose());
    return StatusOf(device_, copied_[slot].Wait());  // an event never recorded counts as reached
  }

 private:
  CudaQueue(int device, std::uint64_t slot_bytes) : device_(device), slot_bytes_(slot_bytes) {}
  absl::Status Choose() const { return StatusOf(device_, cuda::SetDevice(device_)); }

  int device_;
  std::uint64_t slot_bytes_;
  cuda::PinnedBuffer slots_;
  cuda::Stream stream_;
  std::vector<cuda::Event> copied_;  // of each slot, its last copy
};

class CudaMemory final : public LoadMemory {
 public:
  explicit CudaMemory(int device) : device_(device) {}

  std::string name() const override { return DeviceName(device_); }
  bool host_writable() const override { return false; }

  absl::StatusOr<std::unique_ptr<MemoryBlock>> Allocate(std::uint64_t bytes) override {
    Q4_RETURN_IF_ERROR(Choose());
    cuda::DeviceBuffer buffer;
    const cuda::KernelError error = buffer.Allocate(bytes);
    // The one failure that a user can do something about, so it has an issue of its own and says how much is free.
    if (error.code == kOutOfMemory) {
      cuda::DeviceInfo info;
      // A second failure must not hide the first: without the figures the message is shorter.
      const bool known = cuda::GetDeviceInfo(device_, &info).ok();
      return Fail(kDeviceMemory, name(), {},
                  known ? fmt::format("{} bytes wanted, {} of {} free", bytes, info.free_bytes, info.total_bytes)
                        : fmt::format("{} bytes wanted", bytes));
    }
    Q4_RETURN_IF_ERROR(StatusOf(device_, error));
    return std::make_unique<CudaBlock>(std::move(buffer));
  }

  absl::StatusOr<std::unique_ptr<CopyQueue>> NewQueue(unsigned slots, std::uint64_t slot_bytes) override {
    return CudaQueue::Create(device_, slots, slot_bytes);
  }

  absl::Status Await(void* stream) override {
    Q4_RETURN_IF_ERROR(Choose());
    return StatusOf(device_, cuda::Synchronize(stream));
  }

  // Kernels read nested scales, and their offset, from the device's memory; nothing is decoded on the host. The jobs
  // run one after the other on one stream.
  absl::Status Dequantize(std::span<const DequantizeJob> jobs, unsigned) override {
    Q4_RETURN_IF_ERROR(Choose());
    cuda::Stream stream;
    Q4_RETURN_IF_ERROR(StatusOf(device_, stream.Create()));
    absl::Status status;
    for (const DequantizeJob& job : jobs) {
      cuda::DequantizeArgs args;
      args.book = CodeBookOf(job);
      args.codes = job.codes;
      // Null of nested scales, as the pointers of the next line are of fp32 ones; the kernel tells the two by that.
      args.scales = job.scales.scales;
      args.nested = {job.scales.scale_codes, job.scales.group_scales, job.offset_word};
      args.n = job.elems;
      args.block_size = job.block_size;
      args.out_type = job.out_type;
      args.out = job.out;
      status = StatusOf(device_, cuda::Dequantize(args, stream.handle()));
      if (!status.ok()) break;
    }
    // Also after an error: the caller will free memory that jobs already started may be working on.
    status.Update(StatusOf(device_, cuda::Synchronize(stream.handle())));
    return status;
  }

  // On the default stream. Everything loaded has arrived by then, so there is nothing else to wait for.
  absl::Status CopyToHost(const void* from, std::span<std::uint8_t> to) override {
    Q4_RETURN_IF_ERROR(Choose());
    Q4_RETURN_IF_ERROR(StatusOf(device_, cuda::CopyToHost(to.data(), from, to.size(), nullptr)));
    return StatusOf(device_, cuda::Synchronize(nullptr));
  }

 private:
  absl::Status Choose() const { return StatusOf(device_, cuda::SetDevice(device_)); }

  int device_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LoadMemory>> MakeCudaMemory(int device) {
  int count = 0;
  const cuda::KernelError error = cuda::DeviceCount(&count);
  if (!error.ok()) return Fail(kNoDevice, DeviceName(device), {}, cuda::ErrorText(error));
  if (device < 0 || device >= count) {
    return Fail(kNoDevice, DeviceName(device), {}, fmt::format("this machine has {}", count));
  }
  // Since CUDA 12 this starts the device. Its flags are left to the process that loads.
  Q4_RETURN_IF_ERROR(StatusOf(device, cuda::SetDevice(device)));
  return std::make_unique<CudaMemory>(device);
}

}  // namespace q4
