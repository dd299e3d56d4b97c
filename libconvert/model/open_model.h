// What kind of model a path names.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// Whether `path` is a .q4 container or the list of a sharded one, by its first bytes; anything else is left to the
// checkpoint readers. Error: the path cannot be read.
absl::StatusOr<bool> IsQ4Container(FileSystem& fs, const std::string& path);

}  // namespace q4
