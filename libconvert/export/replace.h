// What q4export may replace: what it wrote itself, and nobody changed since (record.h). A directory that is replaced is
// gone, and people keep originals, notes and repositories in such directories. Internal to libconvert/export/.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/publish/atomic_directory.h"
#include "formats/q4/reader.h"
#include "libconvert/base/progress.h"
#include "libconvert/export/record.h"

namespace q4 {

// What the user allows of an output that exists, and what looking at it needs.
struct ReplaceOptions {
  bool force = false;  // replace what q4export wrote
  bool into = false;   // a directory: write among what others have put there
  unsigned threads = 1;
  CancelFlag* cancel = nullptr;
  DigestCache* digests = nullptr;  // not null
};

// Whether an export of `model` may be published as the directory `path`, which exists, and which of its files go then.
// Every entry is one of these:
// - agrees in size and SHA-256 with the directory's own record, or is that record: replaced, with `force`;
// - agrees with the record that a killed run was about to publish: replaced;
// - somebody else's, a symbolic link and an empty directory included: stays, with `into`.
//
// An error names the first entry in the way (exit code 1): kExportNotReplaceable for somebody else's without `into`;
// kExportIsSource where it, or a file that would be replaced, is a source of the container, by size and digest, or by
// size where no digest is recorded; kExportExists for what wants `force`.
absl::StatusOr<DirectoryUse> CheckDirectory(FileSystem& fs, const Q4Model& model, const std::string& path,
                                            const ReplaceOptions& options);

// With use.keep_others: whether the files `names` of the new export, relative to `path`, find their places free, or
// taken by use.ours, and are not to lie in what is no directory. kExportNotReplaceable, with the first that does not.
absl::Status CheckPlaces(FileSystem& fs, const std::string& path, const DirectoryUse& use,
                         const std::set<std::string>& names);

// The same for the regular file `path`, of which only an empty one or one that bears its mark is replaced.
absl::Status CheckFile(FileSystem& fs, const Q4Model& model, const std::string& path, const ReplaceOptions& options);

}  // namespace q4
