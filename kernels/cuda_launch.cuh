// What every launcher needs: runtime calls as values, checks of arguments, grid sizes. Host code only, for the .cu
// files.
//
// A launcher checks its arguments, chooses a grid, launches, and reports the launch; what the kernel itself does wrong
// shows at the next synchronisation (Synchronize in cuda_runtime.h). Nothing here allocates or waits.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_kernels.h"

namespace q4::cuda {

// The runtime's type, which kernels/cuda_kernels.h hides so that its users need no CUDA header.
inline cudaStream_t RawStream(StreamHandle stream) { return static_cast<cudaStream_t>(stream); }

// A failed call also leaves its code behind as the thread's "last error"; it is taken away, so that the next launch
// does not report it. `what` must be static text: the KernelError keeps the pointer.
inline KernelError Check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return {};
  cudaGetLastError();
  return {static_cast<int>(code), what};
}

// A launch returns nothing; its error, such as a grid that is too large, is the thread's last error.
inline KernelError CheckLaunch(const char* what) { return Check(cudaGetLastError(), what); }

// For arguments that a kernel would read out of bounds or misaligned with: refused before anything is enqueued.
inline KernelError BadArgument(const char* what) { return {static_cast<int>(cudaErrorInvalidValue), what}; }

// Vector loads and stores are 16 bytes wide and fault at other addresses. Null counts as aligned.
inline bool IsAligned16(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

// A grid-stride kernel works with any grid; a grid's size has a limit. `wanted` thread blocks, or the most that a grid
// may have in its first dimension, 2^31 - 1.
inline unsigned GridSize(std::uint64_t wanted) {
  constexpr std::uint64_t kLargest = 0x7FFFFFFF;
  return static_cast<unsigned>(wanted < kLargest ? wanted : kLargest);
}

// Lets a kernel be launched with this much shared memory: above 48 KiB it has to be asked for, on each device.
template <typename Kernel>
KernelError AllowSharedMemory(Kernel kernel, std::size_t bytes) {
  return Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
               "reserve shared memory");
}

// Blocks of a grid-stride kernel: as many as run at once, or fewer if there is less work. For kernels that have
// something to set up per thread block, such as a table in shared memory: more thread blocks than run at once would
// only set it up again. `threads` per thread block; `work_items` is the number of thread blocks that would have
// something to do, and 0 makes the grid 0, which cannot be launched. `shared_bytes`: what the launch asks for besides
// what the kernel declares. Fails with the runtime's error when the device cannot be queried.
template <typename Kernel>
KernelError ResidentGrid(Kernel kernel, int threads, std::uint64_t work_items, unsigned* grid,
                         std::size_t shared_bytes = 0) {
  int device = 0, multiprocessors = 0, per_multiprocessor = 0;
  KernelError error = Check(cudaGetDevice(&device), "find the current device");
  if (error.ok()) {
    error = Check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "query the device");
  }
  if (error.ok()) {
    error = Check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, threads, shared_bytes),
                  "query the occupancy");
  }
  if (!error.ok()) return error;
  const auto resident = static_cast<std::uint64_t>(multiprocessors) * static_cast<std::uint64_t>(per_multiprocessor);
  *grid = static_cast<unsigned>(resident < work_items ? resident : work_items);
  return {};
}

}  // namespace q4::cuda
