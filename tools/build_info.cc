#include "tools/build_info.h"

#include <vector>

#include "fmt/format.h"
#include "kernels/kernels.h"
#include "libconvert/base/version.h"

namespace q4 {

std::string_view CudaArchitectures() { return Q4_CUDA_ARCHITECTURES_TEXT; }

std::string VersionText(std::string_view tool) {
  std::vector<const char*> compiled;
  for (const KernelTable* const table : SimdKernels()) compiled.push_back(table->name);
  for (const char* const name : UnsupportedSimdTargets()) compiled.push_back(name);
  std::string text = fmt::format("{} {}\n", tool, kQ4Version);
  if (!BuildCommit().empty()) text += fmt::format("commit      {}\n", BuildCommit());
  text += fmt::format("arithmetic  {}\n", kNumericsVersion);
  text += fmt::format("SIMD        {}; here {}\n", fmt::join(compiled, ", "), BestCpuKernels().name);
  text += CudaArchitectures().empty() ? std::string("CUDA        not built\n")
                                      : fmt::format("CUDA        {}\n", CudaArchitectures());
  return text;
}

}  // namespace q4
