// How one tensor is quantized.
#pragma once

#include <cstdint>

#include "formats/q4/container.h"
#include "kernels/kernels.h"

namespace q4 {

// As in the options of the command line.
inline const char* CodeBookName(CodeBook book) { return book == CodeBook::kNf4 ? "nf4" : "fp4"; }

struct QuantSettings {
  CodeBook code_book = CodeBook::kNf4;
  std::uint32_t block_size = 64;  // IsBlockSize()
  bool double_quant = true;       // 8-bit scales with fp32 scales of their own
  Q4Encoder encoder = Q4Encoder::kAbsmax;
  bool operator==(const QuantSettings&) const = default;
};

}  // namespace q4
