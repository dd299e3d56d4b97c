// Whether the source files are those that a container was made from.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/verify/context.h"

namespace q4 {

// Compares the source files with the records: their sizes and, with `digests`, their digests, for which whole files are
// read, 1 MiB at a time, as many side by side as the context has threads. `container` is named in the findings, which
// come in the order of the records. Fails only if a file cannot be read or on cancellation.
absl::Status CompareSourceFiles(const Checkpoint& source, const std::vector<SourceFileRecord>& records, bool digests,
                                const std::string& container, const VerifyContext& context);

// Adds a finding for every source file that no record names. For the records of a whole model: its shards, each of
// which records what it was read from, have read every file. None where nothing at all is recorded, which no writer
// must do.
void FindUnrecordedSourceFiles(const Checkpoint& source, const std::vector<SourceFileRecord>& records,
                               const std::string& container, FindingList* findings);

}  // namespace q4
