// The little of the CUDA runtime that host code needs to use kernels/cuda_kernels.h: devices, memory, streams, events,
// copies. Owners free what they hold when they go; a moved-from or empty owner holds nothing. No CUDA header is needed
// to include this.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cuda_kernels.h"

namespace q4::cuda {

// The number of usable devices. Zero with an error when there is no driver, no device or no permission.
KernelError DeviceCount(int* count);
KernelError SetDevice(int device);  // for the calling thread
// Starts a device, which takes a moment, and makes it the calling thread's. Threads that wait for it will sleep and not
// spin.
KernelError StartDevice(int device);

struct DeviceInfo {
  char name[256] = "";
  std::uint64_t total_bytes = 0, free_bytes = 0;
  int multiprocessors = 0;
  int capability = 0;           // 90 for 9.0
  int driver = 0, runtime = 0;  // CUDA versions, 13000 for 13.0
};
KernelError GetDeviceInfo(int device, DeviceInfo* info);

// Memory of the current device, and page-locked memory of the host, for owners other than the two classes below. The
// functions that free take null as well.
KernelError AllocateOnDevice(std::uint64_t bytes, void** data);
void FreeOnDevice(void* data);
KernelError AllocatePinned(std::uint64_t bytes, void** data);
void FreePinned(void* data);

// Memory of the current device.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceBuffer() { Reset(); }

  // Frees what was held before. `bytes` may be 0.
  KernelError Allocate(std::uint64_t bytes);
  void Reset();

  void* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void swap(DeviceBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void* data_ = nullptr;
  std::uint64_t size_ = 0;
};

// Page-locked host memory: the only kind that copies run beside kernels with.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PinnedBuffer() { Reset(); }

  KernelError Allocate(std::uint64_t bytes);
  void Reset();

  void* data() const { return data_; }
  std::uint64_t size() const { return size_; }

 private:
  void swap(PinnedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void* data_ = nullptr;
  std::uint64_t size_ = 0;
};

// A stream that does not wait for the default stream.
class Stream {
 public:
  Stream() = default;
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Stream();

  KernelError Create();
  StreamHandle handle() const { return handle_; }

 private:
  StreamHandle handle_ = nullptr;
};

// A point in a stream that others can wait for.
class Event {
 public:
  Event() = default;
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Event();

  KernelError Create();
  KernelError Record(StreamHandle stream);
  KernelError Wait();                       // the host waits
  KernelError WaitOn(StreamHandle stream);  // the stream waits
  // Milliseconds between two recorded events that the host has waited for.
  static KernelError Elapsed(const Event& begin, const Event& end, float* milliseconds);

 private:
  void* handle_ = nullptr;
};

KernelError CopyToDevice(void* device, const void* host, std::uint64_t bytes, StreamHandle stream);
KernelError CopyToHost(void* host, const void* device, std::uint64_t bytes, StreamHandle stream);
KernelError CopyOnDevice(void* to, const void* from, std::uint64_t bytes, StreamHandle stream);
KernelError Fill(void* device, std::uint8_t byte, std::uint64_t bytes, StreamHandle stream);

// Waits for the stream; reports what its kernels and copies did wrong.
KernelError Synchronize(StreamHandle stream);

}  // namespace q4::cuda
