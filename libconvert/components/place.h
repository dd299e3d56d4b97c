// Where a folder of a pipeline is written, by q4convert and by q4export: what may lie there, and how files get there.
// A folder is replaced only where a record in it lists every file, and each is as it was written: what somebody put
// there or changed is never lost.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/publish/atomic_directory.h"
#include "formats/publish/input_files.h"
#include "formats/source/companions.h"
#include "libconvert/base/progress.h"
#include "libconvert/components/seal.h"

namespace q4 {

// Which file of the folder lists the others, and how it is read: no files where there is none, or it cannot be read.
struct PlaceRecord {
  std::string name;
  std::vector<SealedFile> (*read)(FileSystem& fs, const std::string& directory);
};
// q4-pipeline.json and q4_export.json.
PlaceRecord SealRecord();
PlaceRecord ExportRecord();

// Whether a pipeline may be published as the folder `path`, and what of it goes then. `inputs`: what is read, which
// must not lie in it, nor in what publishing clears. Files that a killed run had begun to publish count as ours.
//
// Errors (exit code 1): kPipelineOutputName; kPipelineIsInput; kPipelineExists for what wants `force`;
// kPipelineNotOurs with the first entry in the way; kPipelineInterrupted (7); I/O (2).
absl::StatusOr<DirectoryUse> CheckPipelinePlace(FileSystem& fs, const std::string& path, const PlaceRecord& record,
                                                const InputFiles& inputs, bool force, CancelFlag* cancel);

// Whether `path`, which need not exist, lies below `directory`, at any depth. ".." is followed on disk, so links on the
// way do not matter. Errors: I/O.
absl::StatusOr<bool> LiesBelow(FileSystem& fs, const std::string& path, const std::string& directory);

// Copies what is carried of `file` to `name` in `directory`, synced. Errors: those of reading and writing;
// kFileChanged; kPipelineInterrupted.
absl::StatusOr<SealedFile> CopyCarried(FileSystem& fs, const CompanionFile& file, const std::string& name,
                                       AtomicDirectory* directory, CancelFlag* cancel);

// The digests of files below `directory`, each with its size, in the order of `names`; on `threads` threads. Errors: as
// above.
absl::StatusOr<std::vector<SealedFile>> DigestFiles(FileSystem& fs, const std::string& directory,
                                                    const std::vector<std::string>& names, unsigned threads,
                                                    CancelFlag* cancel);

// All that is no folder below `directory`, relative to it and bytewise sorted, without what runs of ours keep at the
// top; a link is one entry, and so is an empty folder, with a '/' behind it. Errors: I/O.
absl::StatusOr<std::vector<std::string>> ListFiles(FileSystem& fs, const std::string& directory);

}  // namespace q4
