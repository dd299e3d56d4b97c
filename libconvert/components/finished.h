// The note that a component is converted, beside its container in the partial folder of a pipeline: who finds it need
// not convert again. It goes before the folder is published. Internal to libconvert/components/.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "libconvert/convert/convert.h"

namespace q4 {

// Writes the note for the container `container`, of whose conversion `report` tells. `run_id`: RunIdOf() of its plan.
absl::Status WriteFinishedNote(FileSystem& fs, const std::string& container, const Sha256& run_id,
                               const Checkpoint& checkpoint, const ConvertReport& report);

// What RunConversion() would report of a container that an earlier run has finished: nullopt unless the note speaks of
// this run and of source files that are the same since, and the files are there and intact in every byte.
std::optional<ConvertReport> FindFinished(FileSystem& fs, const std::string& container, const Sha256& run_id,
                                          const Checkpoint& checkpoint, const ConversionPlan& plan, unsigned threads);

// Removes the note; absent: OK.
absl::Status RemoveFinishedNote(FileSystem& fs, const std::string& container);

}  // namespace q4
