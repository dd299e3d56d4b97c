// Reads the header of a safetensors file and validates it completely. https://huggingface.co/docs/safetensors describes
// the format: 8 bytes little-endian header length, a JSON header, then the payload, which is the tensors' bytes.
//
// Accepted is only what has one meaning: the tensors cover the payload from its first byte to its last, without hole,
// overlap or trailing byte. So every byte of an accepted file is header or belongs to exactly one tensor. All errors
// have exit code 3, except 5 for element types that q4 does not carry (F4, F6, FNUZ) and for other formats that hold
// models, and 2 for I/O: 3101 to 3121 and 51xx of checkpoint_issues.h, and those of JSON text. Limits: limits.h. The
// writer is formats/exchange/safetensors_writer.h.
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

// A validated header. Its tensors are kPlain with one extent, whose offset counts from the beginning of the file.
struct SafetensorsHeader {
  std::uint64_t payload_offset = 0;                           // of the first payload byte
  std::vector<SourceTensor> tensors;                          // in payload order; SourceExtent::file is 0
  std::vector<std::pair<std::string, std::string>> metadata;  // __metadata__, in file order
};

// A whole file that lies in memory. Pure; nothing of the result points into `bytes`. `file` is named in errors.
absl::StatusOr<SafetensorsHeader> ParseSafetensors(std::span<const std::uint8_t> bytes, std::string_view file);

// The header of an open file, read in pieces of 1 MiB; the payload is not touched. A file without tensors is accepted;
// whether that is of use is for the caller to say. The size that the payload is compared with is that at open.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const RandomAccessFile& file);

}  // namespace q4
