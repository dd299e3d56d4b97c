// What a file really is, from its first bytes: by it a reader is chosen (source_formats.h), and messages say what a
// file is that no reader takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace q4 {

enum class FileKind {
  kUnknown,
  kGitLfsPointer,
  kGzip,
  kZip,
  kPyTorchZip,  // what torch.save writes
  kPickle,      // legacy torch.save, or any pickle of protocol 2 and later
  kHtml,
  kGguf,
  kQ4,
  kJson,  // begins like a JSON object: perhaps a shard index
};

// As many bytes as any rule looks at; fewer when the file is shorter.
inline constexpr std::size_t kSniffBytes = 512;

FileKind SniffKind(std::span<const std::uint8_t> head);

// "a Git LFS pointer, not weights": what the file looks like.
std::string_view DescribeKind(FileKind kind);

// The error for a file of `kind` given as a checkpoint: exit code 5 for formats that hold models, else 3. OK for
// kUnknown and kJson.
absl::Status RefuseKind(FileKind kind, std::string_view file);

}  // namespace q4
