// The steps of the search that have a file of their own. Host code; not for callers, who see kernels/cuda_kernels.h.
#pragma once

#include "kernels/cuda_kernels.h"

namespace q4::cuda {

// Q9.7: the exact sweep over blocks whose scales SearchScales has chosen; takes the sweep's where they are better.
// search_sweep_cuda.cu.
KernelError SweepScales(const SearchScalesArgs& args, StreamHandle stream);

}  // namespace q4::cuda
