// Reads the header of a safetensors file and validates it completely. https://huggingface.co/docs/safetensors describes
// the format: 8 bytes little-endian header length, a JSON header, then the payload, which is the tensors' bytes.
//
// Accepted is only what has one meaning: the tensors cover the payload from its first byte to its last, without hole,
// overlap or trailing byte. So every byte of an accepted file is header or belongs to exactly one tensor. All errors
// have exit code 3, except 5 for element types that q4 does not carry (F4, F6, FNUZ) and for other formats that hold
// models, and 2 for I/O: 3101 to 3120 and 51xx of checkpoint_issues.h, and those of JSON text. Limits: limits.h. The
// writer is formats/exchange/safetensors_writer.h.
//
// Where the reference reader takes what has more than one meaning, this does not: a name twice, an unknown member of an
// entry, an empty name, NUL in a name, more than 8 dimensions. tests/python/safetensors_reference.py holds both against
// each other.
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
#include "formats/base/limits.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// A validated header. Its tensors are kPlain with one extent, whose offset counts from the beginning of the file.
struct SafetensorsHeader {
  std::uint64_t payload_offset = 0;   // of the first payload byte
  std::vector<SourceTensor> tensors;  // in payload order; SourceExtent::file is 0
  // __metadata__, in file order; a key that comes twice is there twice. Keys and values beyond the limits are
  // shortened, entries beyond them are only counted: it is free-form text, in which people keep pictures and training
  // logs.
  std::vector<std::pair<std::string, std::string>> metadata;
  std::uint64_t metadata_entries = 0;
  std::uint64_t metadata_bytes = 0;  // of all values, as they are unescaped
};

// How much is kept of one key or value of __metadata__, and of all together.
struct MetadataKept {
  std::uint64_t value_bytes = limits::kMetadataValueBytes;
  std::uint64_t total_bytes = limits::kMetadataTotalBytes;
};

// A whole file that lies in memory. Pure; nothing of the result points into `bytes`. `file` is named in errors.
absl::StatusOr<SafetensorsHeader> ParseSafetensors(std::span<const std::uint8_t> bytes, std::string_view file);

// The header of an open file, read in pieces of 1 MiB; the payload is not touched. A file without tensors is accepted;
// whether that is of use is for the caller to say. The size that the payload is compared with is that at open.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const RandomAccessFile& file, const MetadataKept& kept = {});

}  // namespace q4
