// Lays out safetensors files byte for byte as save_pretrained() of transformers writes them.
//
// Only the layout is computed here. The caller writes `header` at offset 0 and each tensor's bytes at its offset, in
// any order and in pieces of any size; together they cover the file without a gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// A tensor to be written.
struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

struct SafetensorsLayout {
  std::string header;                  // length, JSON and padding: all bytes before the payload
  std::vector<std::uint64_t> offsets;  // of each tensor's first byte in the file, in the order in which they were given
  std::vector<std::size_t> file_order;  // indices of the given tensors in the order in which they lie in the file
  std::uint64_t file_bytes = 0;
};

// Header and payload hold the tensors in one order: by dtype (U64, I64, F64, C64, F32, U32, I32, BF16, F16, U16, I16,
// F8_E8M0, F8_E4M3, F8_E5M2, I8, U8, BOOL), then bytewise by name. The header begins with
// "__metadata__":{"format":"pt"} and is padded with spaces to a multiple of 8 bytes.
//
// Fails (exit code 3) on what no reader would take: duplicate names, names that are too long, not UTF-8 or hold NUL,
// shapes beyond the limits, a header beyond the limit. Pure.
absl::StatusOr<SafetensorsLayout> PlanSafetensors(std::span<const SafetensorsTensor> tensors);

}  // namespace q4
