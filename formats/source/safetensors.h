// Reads the header of a safetensors file and validates it completely. https://huggingface.co/docs/safetensors describes
// the format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
//
// Accepted is only what has one meaning: the tensors tile the payload from its first byte to its last, without hole,
// overlap or trailing byte. All errors have exit code 3, except 5 for element types that q4 does not carry (F4, F6,
// FNUZ) and for other formats that hold models, and 2 for I/O. Limits: limits.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/source_tensor.h"

namespace q4 {

struct SafetensorsHeader {
  std::uint64_t payload_offset = 0;                           // of the first payload byte
  std::vector<SourceTensor> tensors;                          // in payload order; SourceExtent::file is 0
  std::vector<std::pair<std::string, std::string>> metadata;  // __metadata__, in file order
};

// A whole file that lies in memory. Pure. `file` is named in errors.
absl::StatusOr<SafetensorsHeader> ParseSafetensors(std::span<const std::uint8_t> bytes, std::string_view file);

// The header of an open file, read in pieces of 1 MiB; the payload is not touched. A file without tensors is accepted;
// whether that is of use is for the caller to say.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const RandomAccessFile& file);

}  // namespace q4
