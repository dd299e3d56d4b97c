// Linked into tests that need a GPU: before the first of them it says which GPU they run on, or that there is none,
// which ends the program with exit status 77, for CTest "skipped". A listener, and no main() of their own: that of
// Catch2 v2 takes half a minute to compile.
#define CATCH_CONFIG_EXTERNAL_INTERFACES  // Catch2 v2: listeners
#include <cstdio>
#include <cstdlib>

#include "kernels/cuda_runtime.h"
#include "tests/support/catch.h"

namespace q4::test {
namespace {

#if defined(CATCH_VERSION_MAJOR) && CATCH_VERSION_MAJOR >= 3
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

struct GpuRequired : Listener {
  using Listener::Listener;

  void testRunStarting(const Catch::TestRunInfo& run) override {
    Listener::testRunStarting(run);
    int devices = 0;
    const cuda::KernelError error = cuda::DeviceCount(&devices);
    if (devices == 0) {
      std::printf("SKIP: %s\n", error.ok() ? "no CUDA device" : cuda::ErrorText(error));
      std::fflush(stdout);
      std::_Exit(77);
    }
    cuda::DeviceInfo info;
    if (cuda::GetDeviceInfo(0, &info).ok()) {
      std::printf("%s, compute capability %d.%d, driver CUDA %d, runtime CUDA %d\n", info.name, info.capability / 10,
                  info.capability % 10, info.driver, info.runtime);
    }
  }
};

CATCH_REGISTER_LISTENER(GpuRequired)

}  // namespace
}  // namespace q4::test
