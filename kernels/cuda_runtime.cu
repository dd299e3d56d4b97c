// kernels/cuda_runtime.h over the CUDA runtime: each function is one or a few runtime calls whose error becomes a
// KernelError (Check, in cuda_launch.cuh). `what` names the operation, in the words of the error messages of the tools.
// No kernel stands here. The file is compiled by nvcc only because it includes the runtime's header.
#include <cstring>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_runtime.h"

namespace q4::cuda {
namespace {

cudaEvent_t RawEvent(void* handle) { return static_cast<cudaEvent_t>(handle); }

}  // namespace

const char* ErrorText(const KernelError& error) { return cudaGetErrorString(static_cast<cudaError_t>(error.code)); }

KernelError DeviceCount(int* count) {
  // Zero in every failure, whatever the runtime left there: callers treat "no driver" and "no device" alike.
  *count = 0;
  const KernelError error = Check(cudaGetDeviceCount(count), "count the devices");
  if (!error.ok()) *count = 0;
  return error;
}

KernelError SetDevice(int device) { return Check(cudaSetDevice(device), "choose the device"); }

KernelError StartDevice(int device) {
  if (KernelError error = SetDevice(device); !error.ok()) return error;
  // Before the first use it counts; a process that used the device before keeps its way of waiting.
  if (KernelError error = Check(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync), "set the device's flags");
      !error.ok())
    return error;
  // The usual way to make the runtime create the device's context now rather than in the first real call.
  return Check(cudaFree(nullptr), "start the device");
}

// Versions of driver and runtime are the process's and not the device's, but belong into the same report.
KernelError GetDeviceInfo(int device, DeviceInfo* info) {
  cudaDeviceProp properties;
  if (KernelError error = Check(cudaGetDeviceProperties(&properties, device), "query the device"); !error.ok())
    return error;
  // The runtime's name is zero-terminated within these bytes.
  static_assert(sizeof(properties.name) == sizeof(info->name));
  std::memcpy(info->name, properties.name, sizeof(info->name));
  info->multiprocessors = properties.multiProcessorCount;
  info->capability = 10 * properties.major + properties.minor;
  if (KernelError error = Check(cudaDriverGetVersion(&info->driver), "query the driver"); !error.ok()) return error;
  if (KernelError error = Check(cudaRuntimeGetVersion(&info->runtime), "query the runtime"); !error.ok()) return error;
  // cudaMemGetInfo answers for the current device only; the thread gets its own back whether that fails or not.
  int previous = 0;
  if (KernelError error = Check(cudaGetDevice(&previous), "find the current device"); !error.ok()) return error;
  if (KernelError error = SetDevice(device); !error.ok()) return error;
  std::size_t free_bytes = 0, total_bytes = 0;
  const KernelError error = Check(cudaMemGetInfo(&free_bytes, &total_bytes), "query the device's memory");
  info->free_bytes = free_bytes;
  info->total_bytes = total_bytes;
  const KernelError restored = SetDevice(previous);
  return error.ok() ? restored : error;
}

KernelError AllocateOnDevice(std::uint64_t bytes, void** data) {
  *data = nullptr;
  return Check(cudaMalloc(data, bytes), "allocate device memory");
}

// Freeing is for destructors, which have nobody to report to; an error here is one of earlier work and shows in
// Synchronize.
void FreeOnDevice(void* data) { cudaFree(data); }

KernelError AllocatePinned(std::uint64_t bytes, void** data) {
  *data = nullptr;
  return Check(cudaMallocHost(data, bytes), "allocate page-locked memory");
}

void FreePinned(void* data) { cudaFreeHost(data); }

// Reset first: the old memory is free before the new is asked for, so a device that can hold one of them is enough.
KernelError DeviceBuffer::Allocate(std::uint64_t bytes) {
  Reset();
  const KernelError error = bytes == 0 ? KernelError{} : AllocateOnDevice(bytes, &data_);
  if (error.ok()) size_ = bytes;
  return error;
}

void DeviceBuffer::Reset() {
  FreeOnDevice(data_);
  data_ = nullptr;
  size_ = 0;
}

KernelError PinnedBuffer::Allocate(std::uint64_t bytes) {
  Reset();
  const KernelError error = bytes == 0 ? KernelError{} : AllocatePinned(bytes, &data_);
  if (error.ok()) size_ = bytes;
  return error;
}

void PinnedBuffer::Reset() {
  FreePinned(data_);
  data_ = nullptr;
  size_ = 0;
}

// An error of destroying a stream or an event is one of earlier work, as for FreeOnDevice.
Stream::~Stream() {
  if (handle_ != nullptr) cudaStreamDestroy(RawStream(handle_));
}

KernelError Stream::Create() {
  cudaStream_t stream = nullptr;
  const KernelError error = Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream");
  // The move assignment swaps, so the stream held before goes with the temporary.
  if (error.ok()) *this = Stream(), handle_ = stream;
  return error;
}

Event::~Event() {
  if (handle_ != nullptr) cudaEventDestroy(RawEvent(handle_));
}

KernelError Event::Create() {
  cudaEvent_t event = nullptr;
  const KernelError error = Check(cudaEventCreate(&event), "create an event");
  if (error.ok()) *this = Event(), handle_ = event;
  return error;
}

KernelError Event::Record(StreamHandle stream) {
  return Check(cudaEventRecord(RawEvent(handle_), RawStream(stream)), "record an event");
}

// Sleeps or spins as StartDevice has set it.
KernelError Event::Wait() { return Check(cudaEventSynchronize(RawEvent(handle_)), "wait for an event"); }

KernelError Event::WaitOn(StreamHandle stream) {
  return Check(cudaStreamWaitEvent(RawStream(stream), RawEvent(handle_), 0), "let a stream wait for an event");
}

KernelError Event::Elapsed(const Event& begin, const Event& end, float* milliseconds) {
  return Check(cudaEventElapsedTime(milliseconds, RawEvent(begin.handle_), RawEvent(end.handle_)), "time two events");
}

// The direction is named although the runtime could tell it from the addresses: a wrong pointer is then an error.
KernelError CopyToDevice(void* device, const void* host, std::uint64_t bytes, StreamHandle stream) {
  return Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, RawStream(stream)), "copy to the device");
}

KernelError CopyToHost(void* host, const void* device, std::uint64_t bytes, StreamHandle stream) {
  return Check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, RawStream(stream)), "copy to the host");
}

KernelError CopyOnDevice(void* to, const void* from, std::uint64_t bytes, StreamHandle stream) {
  return Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, RawStream(stream)), "copy on the device");
}

KernelError Fill(void* device, std::uint8_t byte, std::uint64_t bytes, StreamHandle stream) {
  return Check(cudaMemsetAsync(device, byte, bytes, RawStream(stream)), "fill device memory");
}

KernelError Synchronize(StreamHandle stream) {
  return Check(cudaStreamSynchronize(RawStream(stream)), "finish the work");
}

}  // namespace q4::cuda
