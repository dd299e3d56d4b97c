// The little of the CUDA runtime that host code needs to use kernels/cuda_kernels.h: devices, memory, streams, events,
// copies. Owners free what they hold when they go; a moved-from or empty owner holds nothing. No CUDA header is needed
// to include this.
//
// Every call that can fail returns a KernelError, whose code is the runtime's; converting it to an absl::Status is the
// caller's business. "The current device" is the calling thread's, set by SetDevice or StartDevice; memory, streams and
// events belong to the device that was current when they were made. Owners are not thread-safe; the free functions are.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cuda_kernels.h"

namespace q4::cuda {

// The number of usable devices. Zero with an error when there is no driver, no device or no permission. Those that
// CUDA_VISIBLE_DEVICES leaves, numbered from 0. Does not start any.
KernelError DeviceCount(int* count);
// Device numbers are 0 to DeviceCount - 1.
KernelError SetDevice(int device);  // for the calling thread
// Starts a device, which takes a moment, and makes it the calling thread's. Threads that wait for it will sleep and not
// spin. Sleeping leaves the cores to the threads that read and compress.
KernelError StartDevice(int device);

// What q4 says about a device in reports, and what decides how much work fits it.
struct DeviceInfo {
  char name[256] = "";  // as the driver calls it, zero-terminated
  // The device's memory; free at the time of the question, other processes' use included.
  std::uint64_t total_bytes = 0, free_bytes = 0;
  // Of the device: what a grid of resident thread blocks is a multiple of.
  int multiprocessors = 0;
  int capability = 0;           // 90 for 9.0
  int driver = 0, runtime = 0;  // CUDA versions, 13000 for 13.0
};
// Starts the device if need be, because its free memory is asked for. The calling thread's device is the same
// afterwards.
KernelError GetDeviceInfo(int device, DeviceInfo* info);

// Memory of the current device, and page-locked memory of the host, for owners other than the two classes below. The
// functions that free take null as well. Addresses are multiples of 256 bytes at least. *data is null after a failure.
KernelError AllocateOnDevice(std::uint64_t bytes, void** data);
void FreeOnDevice(void* data);
// Page-locking is slow: allocate once and use the memory again.
KernelError AllocatePinned(std::uint64_t bytes, void** data);
void FreePinned(void* data);

// Memory of the current device. Freeing waits until the device has finished with the memory, as cudaFree does.
class DeviceBuffer {
 public:
  // A move assignment exchanges the two, so what this held is freed when the other one goes.
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceBuffer() { Reset(); }

  // Frees what was held before. `bytes` may be 0. Fails with cudaErrorMemoryAllocation when the device has too little;
  // the buffer is then empty.
  KernelError Allocate(std::uint64_t bytes);
  // Frees what is held; the buffer is empty then.
  void Reset();

  // A device pointer: the host must not read through it. Null when empty.
  void* data() const { return data_; }
  // Bytes that were asked for.
  std::uint64_t size() const { return size_; }
  // The same pointer as one to an array of T.
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

// Page-locked host memory: the only kind that copies run beside kernels with. It is taken from the machine's memory at
// once and cannot be swapped out, so it should be small and long-lived.
class PinnedBuffer {
 public:
  // Moves as DeviceBuffer does.
  PinnedBuffer() = default;
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PinnedBuffer() { Reset(); }

  // Frees what was held before. `bytes` may be 0.
  KernelError Allocate(std::uint64_t bytes);
  // As DeviceBuffer::Reset.
  void Reset();

  // A host pointer. Null when empty.
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

// A stream that does not wait for the default stream. Operations of one stream run in order; those of different streams
// may run at the same time.
class Stream {
 public:
  Stream() = default;
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Stream();

  // Replaces the stream that was held. Destroying one that has work left does not wait: the work is still done.
  KernelError Create();
  // For the functions of cuda_kernels.h. Null, which means the default stream, before Create.
  StreamHandle handle() const { return handle_; }

 private:
  StreamHandle handle_ = nullptr;
};

// A point in a stream that others can wait for. It stands for the work that was enqueued before Record; an event that
// was never recorded counts as reached.
class Event {
 public:
  // Moves exchange or take over the event; one that was moved from has none and must be created again before use.
  Event() = default;
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Event();

  // Replaces the event that was held. It measures time too, for Elapsed.
  KernelError Create();
  // Enqueues the point at the stream's present end; an earlier recording is forgotten.
  KernelError Record(StreamHandle stream);
  KernelError Wait();                       // the host waits
  KernelError WaitOn(StreamHandle stream);  // the stream waits
  // Milliseconds between two recorded events that the host has waited for. Both on one device. The clock is the
  // device's, with a resolution of about half a microsecond.
  static KernelError Elapsed(const Event& begin, const Event& end, float* milliseconds);

 private:
  void* handle_ = nullptr;
};

// Copies and fills are enqueued in the stream and return at once; memory must stay valid until they are done. With
// pageable host memory, instead of page-locked, the runtime stages the copy and may wait.
KernelError CopyToDevice(void* device, const void* host, std::uint64_t bytes, StreamHandle stream);
// The host may look at the bytes after Synchronize or an Event's Wait, not before.
KernelError CopyToHost(void* host, const void* device, std::uint64_t bytes, StreamHandle stream);
// Within one device. The ranges do not overlap.
KernelError CopyOnDevice(void* to, const void* from, std::uint64_t bytes, StreamHandle stream);
// Sets each of `bytes` bytes to `byte`.
KernelError Fill(void* device, std::uint8_t byte, std::uint64_t bytes, StreamHandle stream);

// Waits for the stream; reports what its kernels and copies did wrong. An error that a kernel made, such as an access
// out of bounds, stays: the device is of no further use to this process.
KernelError Synchronize(StreamHandle stream);

}  // namespace q4::cuda
