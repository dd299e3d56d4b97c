// The tensor types of GGML by their numbers in a GGUF file (ggml.h, enum ggml_type): what a block of each holds and
// takes. Internal to formats/gguf/.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "formats/tensor/tensor.h"

namespace q4 {

struct GgufType {
  std::uint32_t number;
  std::string_view name;       // as GGML prints it: "Q4_K"
  std::uint32_t block_elems;   // elements of a block, which lie in one row; 1 for plain types
  std::uint32_t block_bytes;   // bytes that it takes
  std::optional<DType> dtype;  // of plain types
};

// The row for a number of a file, nullptr for those that do not exist or that GGML gave up (4, 5, 31 to 33, 36 to 38).
const GgufType* FindGgufType(std::uint32_t number);

}  // namespace q4
