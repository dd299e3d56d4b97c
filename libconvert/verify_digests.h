// Whether the source files are those that a container was made from. Internal to libconvert/verify*.cc.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "formats/checkpoint.h"
#include "libconvert/progress.h"
#include "libconvert/provenance_view.h"
#include "libconvert/verify_findings.h"

namespace q4 {

// Compares the source files with the records: their sizes and, with `digests`, their digests, for which whole files are
// read, 1 MiB at a time, on the calling thread. `container` is named in the findings. Fails only if a file cannot be
// read or on `cancel`.
absl::Status CompareSourceFiles(const Checkpoint& source, const std::vector<SourceFileRecord>& records, bool digests,
                                const std::string& container, CancelFlag* cancel, FindingList* findings);

}  // namespace q4
