// Reads the header of a GGUF file and validates it completely, of versions 2 and 3, little-endian.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md describes the format: magic, version, two counts;
// key-values with typed values; a description of each tensor; then the tensors' bytes, each aligned.
//
// As for safetensors, accepted is only what has one meaning: every length is held against the bytes that remain, the
// tensors lie in the order of their list without gap but the padding, and nothing follows them. llama.cpp asks for the
// same. Text in values may be any bytes, as vocabularies have them. All errors have exit code 3 but for kGgufQuantized
// (5) and I/O (2): gguf_issues.h. Limits: limits.h. Memory: the tensors, the keys, and 1 MiB.
//
// Plain element types are read: F32, F16, BF16, F64 and integers. Dimensions of GGUF begin with the innermost; shapes
// here are row-major like all others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// The name of the format, as Checkpoint::format() and a container's provenance have it.
inline constexpr std::string_view kGgufFormat = "gguf";
// Whether `format` is that or says the same of several files ("gguf-sharded"). The names of the tensors are then those
// of llama.cpp, "blk.0.attn_q.weight", and the rows of some are in an order of its own.
bool IsGgufFormat(std::string_view format);

// What the key-values are called where they are carried. The ending is one that a container can hold (docs/format.md
// F5.5). A GGUF file without tensors is what llama.cpp calls a vocabulary; whatever its name, it is told by its first
// bytes.
inline constexpr std::string_view kGgufMetadataName = "gguf_metadata.vocab";

// What a file of several says about them: split.no, split.count, split.tensors.count.
struct GgufSplit {
  std::uint64_t number = 0;              // from 0
  std::uint64_t count = 0;               // of files, at least 2
  std::optional<std::uint64_t> tensors;  // of all files together
  bool operator==(const GgufSplit&) const = default;
};

// A validated header. Its tensors are kPlain with one extent, whose offset counts from the beginning of the file.
struct GgufHeader {
  std::vector<SourceTensor> tensors;  // in payload order; SourceExtent::file is 0
  std::uint32_t version = 0;
  // Where the key-values lie: behind magic, version and counts, up to the first tensor's description.
  std::uint64_t key_values = 0;
  std::uint64_t key_values_begin = 0, key_values_end = 0;
  // general.architecture, general.type, adapter.type and general.name, "" where they are absent; at most kMostNameBytes
  // of each.
  static constexpr std::uint64_t kMostNameBytes = 64;
  std::string architecture, type, adapter_type, name;
  std::optional<GgufSplit> split;  // nullopt for a file that is alone; a count of 0 or 1 says that too
  // Keys that say something beside the split and the alignment: the first of them, and how many with how many bytes.
  static constexpr std::size_t kMostKeys = 8;
  std::vector<std::string> keys;
  std::uint64_t said_keys = 0, said_bytes = 0;
};

// The header of an open file; no payload is touched. A file without tensors is accepted.
absl::StatusOr<GgufHeader> ReadGgufHeader(const RandomAccessFile& file);

// What stands before the key-values of a GGUF file that has those of `header` and no tensors. The two together are such
// a file, which readers of GGUF take: what llama.cpp calls a vocabulary.
std::string GgufMetadataHead(const GgufHeader& header);

}  // namespace q4
