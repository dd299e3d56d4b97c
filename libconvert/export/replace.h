// What q4export --force may replace. Internal to libconvert/export/.
//
// Only what an export of this container would have put there: a checkpoint directory that is replaced is gone, and
// people keep originals, notes and repositories in such directories. A file counts as an export's by name and kind,
// since its bytes hold no mark; so the sources that the provenance lists are looked for by size and digest as well.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "libconvert/base/progress.h"

namespace q4 {

// Whether the directory `path` may be replaced by an export of `model`: it is empty; or it holds weights, and nothing
// but regular files with the names of weight files, their index, config.json and the model's embedded files, and the
// directories on the way to those. An error names the first entry that is something else (exit code 1), or a source of
// the container.
absl::Status CheckReplaceableDirectory(FileSystem& fs, const Q4Model& model, const std::string& path,
                                       CancelFlag* cancel);

// Whether the file `path` is none of the sources that the container's provenance lists: the same size and digest, or
// the same size where no digest is recorded. Reads the file only if a size is equal. Exit code 1 if it is one.
absl::Status CheckIsNoSource(FileSystem& fs, const Q4Model& model, const std::string& path, CancelFlag* cancel);

}  // namespace q4
