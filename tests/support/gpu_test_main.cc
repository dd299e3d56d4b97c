// The main() of tests that need a GPU: skips, and says why, where there is none. CTest takes exit status 77 as
// "skipped".
#define CATCH_CONFIG_RUNNER  // Catch2 v2
#include <cstdio>

#include "kernels/cuda_runtime.h"
#include "tests/support/catch.h"

int main(int argc, char** argv) {
  int devices = 0;
  const q4::cuda::KernelError error = q4::cuda::DeviceCount(&devices);
  if (devices == 0) {
    std::printf("SKIP: %s\n", error.ok() ? "no CUDA device" : q4::cuda::ErrorText(error));
    return 77;
  }
  q4::cuda::DeviceInfo info;
  if (q4::cuda::GetDeviceInfo(0, &info).ok()) {
    std::printf("%s, compute capability %d.%d, driver CUDA %d, runtime CUDA %d\n", info.name, info.capability / 10,
                info.capability % 10, info.driver, info.runtime);
  }
  return Catch::Session().run(argc, argv);
}
