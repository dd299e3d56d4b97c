// What every launcher needs: runtime calls as values, checks of arguments, grid sizes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda_kernels.h"

namespace q4::cuda {

inline cudaStream_t RawStream(StreamHandle stream) { return static_cast<cudaStream_t>(stream); }

// A failed call also leaves its code behind as the thread's "last error"; it is taken away, so that the next launch
// does not report it.
inline KernelError Check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return {};
  cudaGetLastError();
  return {static_cast<int>(code), what};
}

inline KernelError CheckLaunch(const char* what) { return Check(cudaGetLastError(), what); }

inline KernelError BadArgument(const char* what) { return {static_cast<int>(cudaErrorInvalidValue), what}; }

inline bool IsAligned16(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

// A grid-stride kernel works with any grid; a grid's size has a limit.
inline unsigned GridSize(std::uint64_t wanted) {
  constexpr std::uint64_t kLargest = 0x7FFFFFFF;
  return static_cast<unsigned>(wanted < kLargest ? wanted : kLargest);
}

// Blocks of a grid-stride kernel: as many as run at once, or fewer if there is less work.
template <typename Kernel>
KernelError ResidentGrid(Kernel kernel, int threads, std::uint64_t work_items, unsigned* grid) {
  int device = 0, multiprocessors = 0, per_multiprocessor = 0;
  KernelError error = Check(cudaGetDevice(&device), "find the current device");
  if (error.ok()) {
    error = Check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "query the device");
  }
  if (error.ok()) {
    error = Check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, threads, 0),
                  "query the occupancy");
  }
  if (!error.ok()) return error;
  const auto resident = static_cast<std::uint64_t>(multiprocessors) * static_cast<std::uint64_t>(per_multiprocessor);
  *grid = static_cast<unsigned>(resident < work_items ? resident : work_items);
  return {};
}

}  // namespace q4::cuda
