// The configurations that a container holds: its own, and those of the module folders that its tensors came from.
#pragma once

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"

namespace q4 {

// The module folders of a container with its embedded configurations. The folders are those that source files of the
// provenance lie in. The model's own has at most limits::kConfigJsonBytes, those of the folders have as much together,
// as in a checkpoint; kFileTooLarge beyond. Errors: those of ReadProvenance() and of Q4Reader::ReadFile().
absl::StatusOr<ModelConfigs> ReadModelConfigs(const Q4Model& model);

}  // namespace q4
