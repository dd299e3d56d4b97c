// What this build can do on this machine.
#include "tools/build_info.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "kernels/kernels.h"
#include "libconvert/base/version.h"
#include "libconvert/engine/device.h"
#include "python/bind/module.h"
#include "python/bind/watched_run.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

// Why "auto" does not use a GPU; "" when it does. Starts CUDA.
std::string NoGpuReason() {
  const auto chosen =
      RunWatched<std::string>(nb::none(), [](const ProgressCallback&, CancelFlag*) -> absl::StatusOr<std::string> {
        Q4_ASSIGN_OR_RETURN(const ChosenEngine engine, OpenDevices({}));
        return engine.reason;
      });
  return chosen;
}

}  // namespace

void BindBuildInfo(nb::module_& module) {
  module.attr("version") = std::string(kQ4Version);
  module.attr("numerics") = std::string(kNumericsVersion);
  module.attr("cuda_architectures") = std::string(CudaArchitectures());
  module.def(
      "cpu_kernels", [] { return std::string(BestCpuKernels().name); }, "The SIMD target of this machine's CPU.");
  module.def("no_gpu_reason", &NoGpuReason, "Why no GPU is used; '' where one is. Starts CUDA.");
}

}  // namespace q4::python
