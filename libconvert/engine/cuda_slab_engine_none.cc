// Stands in for cuda_slab_engine.cc in a build without CUDA (Q4_ENABLE_CUDA=OFF): `--device cuda` is understood, and
// refused with exit code 5.
#include "libconvert/engine/cuda_slab_engine.h"
#include "libconvert/engine/device_issues.h"

namespace q4 {

absl::StatusOr<std::unique_ptr<SlabEngine>> MakeCudaSlabEngine(const std::vector<int>& /*devices*/, int /*effort*/) {
  return Fail(kNoCuda, {}, {});
}

}  // namespace q4
