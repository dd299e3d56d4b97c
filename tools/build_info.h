// What this build is: for --version, and for the Python package.
#pragma once

#include <string>
#include <string_view>

namespace q4 {

// The commit that was built, "-dirty" behind it where files were changed; a release's tag; "" where nothing tells.
std::string_view BuildCommit();

// The GPUs that machine code or PTX was built for, as CMAKE_CUDA_ARCHITECTURES has them; "" without CUDA.
std::string_view CudaArchitectures();

// The text of `tool` --version, several lines: its name and version on the first, then what tells two builds apart.
std::string VersionText(std::string_view tool);

}  // namespace q4
