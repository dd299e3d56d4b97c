// Every kernel table of this machine's CPU, for tests of what must not depend on which one computes.
#pragma once

#include <vector>

#include "kernels/kernels.h"

namespace q4::test {

// The scalar one, then every SIMD target that runs here.
inline std::vector<const KernelTable*> AllCpuKernels() {
  std::vector<const KernelTable*> all = SimdKernels();
  all.insert(all.begin(), &ScalarKernels());
  return all;
}

}  // namespace q4::test
