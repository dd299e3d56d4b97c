// The digest of a whole file, as the provenance of a container records it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/base/progress.h"

namespace q4 {

// Reads all of `file`, 1 MiB at a time. `kind`: "sha256" or "xxh3" (seed 0). Lower-case hexadecimal. `interrupted`: the
// error when `cancel`, which may be nullptr, is set meanwhile.
absl::StatusOr<std::string> FileDigest(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel,
                                       const Issue& interrupted);

}  // namespace q4
