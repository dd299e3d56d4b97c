// Whether the files that a conversion reads are still those that it, or the interrupted run that it goes on with, has
// read. A file's version (formats/base/file.h) says so for nothing where it is the same. Where it is another, the
// content is digested again and decides: a copy, a link or another mode changes the version and not the content.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/journal.h"

namespace q4 {

// Of all files of `checkpoint`, in their order, as they were opened.
std::vector<FileVersion> SourceVersions(const Checkpoint& checkpoint);

// What ConfirmSources() found, for people.
struct SourceCheck {
  std::string note;  // how it was found that content is the same; "" where every file has its old version
  std::string why;   // unless "", nothing may be built on what the interrupted run left; stands behind "began again: "
};

// Asked before anything of `journal` is built on: whether the source files still hold what the interrupted run read of
// them. A file of another version is digested again, as far as that run had digested it; tensors of it beyond that are
// cut from `journal`. Several files at a time, on `threads` threads, with 1 MiB each. REQUIRES: `journal` is of
// ReadJournal() and has owners. Errors: of reading (exit code 2 or 3); kInterruptedRun.
absl::StatusOr<SourceCheck> ConfirmSources(const Conversion& conversion, unsigned threads, Journal* journal);

// Asked after the last byte was read, before anything is published: kFileChanged where a source file no longer holds
// what was converted. `digests`: of the bytes that were, by file; "" of one that is not asked about. One of another
// version but the same size is digested again. Appends to `notes` which were.
absl::Status ConfirmUnchanged(const Conversion& conversion, const std::vector<std::string>& digests,
                              std::vector<std::string>* notes);

// Opens a companion for reading; kFileChanged unless it is of the version that the plan was made of.
absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenCompanion(FileSystem& fs, const CompanionFile& companion);

}  // namespace q4
