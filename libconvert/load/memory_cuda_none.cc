// What stands in for memory_cuda.cc in a build without CUDA.
#include "fmt/format.h"
#include "libconvert/engine/device_issues.h"
#include "libconvert/load/memory.h"

namespace q4 {

absl::StatusOr<std::unique_ptr<LoadMemory>> MakeCudaMemory(int device) {
  return Fail(kNoCuda, fmt::format("cuda:{}", device), {});
}

}  // namespace q4
