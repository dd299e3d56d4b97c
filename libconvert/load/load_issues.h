// What can go wrong when a model is loaded into memory, beyond what is wrong with its files (7xxx) or with GPUs
// (device_issues.h). q4_loader_c.h returns the exit codes as its results.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// LoadPlanOptions::tensors names it, or a caller of the C interface by name or number.
inline constexpr Issue kLoadNoSuchTensor{1301, ExitCode::kUsage, "model has no such tensor"};
// Also an argument of the C interface that is NULL and must not be.
inline constexpr Issue kLoadOption{1302, ExitCode::kUsage, "option of the loader is out of its range"};
// Of a range that the tensor does not have, or that would cut blocks of elements that share a scale.
inline constexpr Issue kLoadSlice{1840, ExitCode::kUsage, "tensor cannot be sliced so"};
// LoadPlaces: too few, too small, misaligned or overlapping.
inline constexpr Issue kLoadPlace{1841, ExitCode::kUsage, "memory to load into does not fit the plan"};
// A mapped file (LoadPlaces::mapped) that became shorter, or whose storage failed.
inline constexpr Issue kLoadMapping{2950, ExitCode::kIo, "mapped file cannot be read"};
inline constexpr Issue kLoadInterrupted{4911, ExitCode::kInterrupted, "loading was interrupted"};
// Host memory, page-locked memory included; that of a GPU is kDeviceMemory.
inline constexpr Issue kLoadHostMemory{9304, ExitCode::kInternal, "memory does not suffice"};

}  // namespace q4
