// Tensors in memory, as Python holds them.
#pragma once

#include <memory>

#include "libconvert/load/load.h"

namespace q4::python {

// A finished load and where it lies. Every array that is handed out shares the ownership of the memory.
struct Loaded {
  std::shared_ptr<const LoadedModel> model;
  int cuda_device = -1;  // -1: memory of this process
};

}  // namespace q4::python
