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
  FileIdentity identity;   // of the file itself where links are followed
};

// The file that a checkpoint was opened by: itself a weight file, or an index that names them.
struct MainFile {
  std::string path;
  FileIdentity identity;
  bool is_index = false;
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

// The companions of the checkpoint that was opened by `main`: those in its directory; for a lone file not named model*
// only if config.json lies beside it, as such a file may just as well lie in a download folder. Errors as above.
absl::StatusOr<std::vector<CompanionFile>> CompanionsOf(FileSystem& fs, const MainFile& main, SymbolicLinks links);

// Whether a regular file at `path`, which need not exist yet, would be among CompanionsOf(`main`). For files that are
// written beside a model and must not become a part of it. A modules.json that is malformed lists no directory here.
// Errors: I/O (exit code 2).
absl::StatusOr<bool> WouldBeCompanion(FileSystem& fs, const MainFile& main, const std::string& path);

// Whether rules 1 to 3 admit a file of this name.
bool IsCompanionName(std::string_view name);

}  // namespace q4
