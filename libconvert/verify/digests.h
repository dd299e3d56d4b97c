// Whether the source files are those that a container was made from. Internal to libconvert/verify*.cc.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/model/provenance_view.h"

namespace q4 {

// Compares the source files with the records: their sizes and, with `digests`, their digests, for which whole files are
// read, 1 MiB at a time, up to `threads` files side by side. `container` is named in the findings, which come in the
// order of the records. Fails only if a file cannot be read or on `cancel`.
absl::Status CompareSourceFiles(const Checkpoint& source, const std::vector<SourceFileRecord>& records, bool digests,
                                const std::string& container, unsigned threads, CancelFlag* cancel,
                                FindingList* findings);

}  // namespace q4
