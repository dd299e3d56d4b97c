// What a file really is, from its first bytes: by it a reader is chosen (source_formats.h), and messages say what a
// file is that no reader takes. Names and extensions play no part, for people rename files and servers send error pages
// under the name of the file. Pure: the caller reads the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace q4 {

// What can be told apart. A safetensors file has no mark, so it is kUnknown, as is everything else without one.
enum class FileKind {
  kUnknown,
  kGitLfsPointer,  // a few lines of text in the place of the file
  kGzip,
  kZip,
  kPyTorchZip,  // what torch.save writes
  kPickle,      // legacy torch.save, or any pickle of protocol 2 and later
  kHtml,
  kGguf,
  kTar,  // also what torch.save wrote in its first versions
  k7z,
  kGgml,  // from before GGUF, and GGUF of which the bytes stand the other way round
  kQ4,    // by its magic, whatever its version
  kJson,  // begins like a JSON object: perhaps a shard index
  kText,  // nothing but characters that a text has
};

// As many bytes as any rule looks at; fewer when the file is shorter.
inline constexpr std::size_t kSniffBytes = 512;

// `head`: the first min(kSniffBytes, size) bytes of a file, or fewer. Never fails: what is not recognised is kUnknown.
// A guess for choosing a reader, which then validates the file.
FileKind SniffKind(std::span<const std::uint8_t> head);

// "a Git LFS pointer, not weights": what the file looks like, and where there is a remedy what to do. Static memory.
std::string_view DescribeKind(FileKind kind);

// The same for a file that was taken for a .q4 container and is none: what it is, and which tool reads it. `head` as
// above, not empty.
std::string DescribeInsteadOfContainer(std::span<const std::uint8_t> head);

// The error for a file of `kind` given as a checkpoint: kUnsupportedFormat (exit code 5) for formats that hold models,
// else kNotACheckpoint (3). OK for kUnknown and kJson: neither rules out a checkpoint.
absl::Status RefuseKind(FileKind kind, std::string_view file);

}  // namespace q4
