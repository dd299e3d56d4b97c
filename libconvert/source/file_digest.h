// The digest of a whole file, as the provenance of a container records it. For those who compare a file with a record:
// q4verify with --against, and q4export before it replaces a directory. A conversion digests its sources while it reads
// them instead (file_hasher.h).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/base/progress.h"

namespace q4 {

// Reads all of `file`, from the first byte to the last, 1 MiB at a time, one piece ahead on a thread of its own where
// the file is large; nothing else is held.
// `kind`: "sha256", or "xxh3" with seed 0, as SourceFileRecord::digest_kind. Returns lower-case hexadecimal, 64 digits
// or 16. Thread-safe.
//
// Errors: those of RandomAccessFile::ReadAt(); `interrupted`, the rule of the calling tool, when `cancel` is set
// meanwhile. `cancel` may be nullptr.
absl::StatusOr<std::string> FileDigest(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel,
                                       const Issue& interrupted);

}  // namespace q4
