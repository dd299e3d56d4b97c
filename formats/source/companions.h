// The small files that belong to a model: configuration, tokenizer, templates, licence. A container embeds them, so
// that it can be exported without the source. Which regular files are admitted goes by their names alone; only
// modules.json is read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// A small file to be carried inside the output: config.json, tokenizer.json, 1_Pooling/config.json, ...
struct CompanionFile {
  std::string name;        // relative to the model directory, '/' separated, plain components only
  std::string path;        // where it can be opened
  std::uint64_t size = 0;  // bytes, when it was found
};

// The companions in `directory`, bytewise sorted by name. A regular file is one if its name, compared as bytes,
//   1. does not begin with '.',
//   2. is not code or weights: .py .so .safetensors .bin .pt .pth .ckpt .gguf .h5 .msgpack .onnx .q4, and no shard
//      index (.index.json),
//   3. is .json .txt .model .jinja .tiktoken .md by extension, or README, or begins with LICENSE or NOTICE.
// Subdirectories are not searched, except that NAME/config.json is a companion when modules.json
// (sentence-transformers) lists NAME as a module's path; modules without that file have nothing to carry.
//
// Errors: a symbolic link that passes the rule, with SymbolicLinks::kRefuse (exit code 3); more or larger files than
// limits.h allows (3); a modules.json that names anything but plain subdirectories (3); I/O (2).
absl::StatusOr<std::vector<CompanionFile>> FindCompanions(FileSystem& fs, const std::string& directory,
                                                          SymbolicLinks links);

// Whether rules 1 to 3 admit a file of this name.
bool IsCompanionName(std::string_view name);

}  // namespace q4
