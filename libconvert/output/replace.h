// What q4convert --force may replace: containers and lists of shards, known by how they begin, and nothing else. A
// mistyped name must not cost anybody a file.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/publish/input_files.h"

namespace q4 {

// What is to appear at a path.
enum class OutputKind { kContainer, kShardList };

// Whether a file of this kind may appear at `path`. What lies there already must be a regular file; then `replace` must
// be true, and it must be empty or a container or list of shards of any version, intact or not. kOutputNotAFile,
// kWouldReplace, kNotOurs (exit code 1); errors of the file system.
absl::Status CheckPlace(FileSystem& fs, const std::string& path, OutputKind kind, bool replace);

// What an earlier output of the same name has left that a new one, consisting of the files `names`, does not replace: a
// container NAME.q4 where the new one is in shards; a list of shards, and those shards that agree with it by size and
// root. Left where it is, it would pass for the model. In the order in which it is to be removed. None if one of them
// is one of `inputs`; what is no file of q4's is not among them. Errors: I/O (exit code 2), since nobody knows
// then what would stay.
absl::StatusOr<std::vector<std::string>> StaleFiles(FileSystem& fs, const InputFiles& inputs, const std::string& output,
                                                    const std::vector<std::string>& names);

}  // namespace q4
