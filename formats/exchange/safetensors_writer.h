// Lays out safetensors files byte for byte as save_pretrained() of transformers writes them, so that an export can be
// compared with theirs as a whole. formats/safetensors/safetensors.h reads the format and describes it.
//
// Only the layout is computed here. The caller writes `header` at offset 0 and each tensor's bytes at its offset, in
// any order and in pieces of any size; together they cover the file without a gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// A tensor to be written. Its bytes are its elements in row-major order, little-endian.
struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// Where everything lies in one file. Positions are in bytes from the beginning of the file, not of the payload.
struct SafetensorsLayout {
  std::string header;                  // length, JSON and padding: all bytes before the payload
  std::vector<std::uint64_t> offsets;  // of each tensor's first byte in the file, in the order in which they were given
  std::vector<std::size_t> file_order;  // indices of the given tensors in the order in which they lie in the file
  std::uint64_t file_bytes = 0;
};

// Header and payload hold the tensors in one order: by dtype (U64, I64, F64, C64, F32, U32, I32, BF16, F16, U16, I16,
// F8_E8M0, F8_E4M3, F8_E5M2, I8, U8, BOOL), then bytewise by name. The header begins with
// "__metadata__":{"format":"pt"}, with the text `more_metadata` before the last brace, and is padded with spaces to a
// multiple of 8 bytes.
//
// Fails (exit code 3) on what no reader would take: kTensorName for a name that is empty, too long, not UTF-8, holds
// NUL or is "__metadata__"; kTooManyDimensions, kTensorTooLarge and kStHeaderTooLarge beyond the limits;
// kDuplicateTensor. They name the tensor and no file. The number of tensors is for the caller to limit. Pure; no
// tensors at all are a file too. Time: a sort of the names.
absl::StatusOr<SafetensorsLayout> PlanSafetensors(std::span<const SafetensorsTensor> tensors,
                                                  std::string_view more_metadata = {});

}  // namespace q4
