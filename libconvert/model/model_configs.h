// The configurations that a container holds: its own, and those of the module folders that its tensors came from.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"

namespace q4 {

// The embedded file `name`, or "" when there is none. Errors: those of Q4Reader::ReadFile().
absl::StatusOr<std::string> ReadEmbedded(const Q4Model& model, std::string_view name);

// The module folders of a container with its embedded configurations. The folders are those that source files of the
// provenance lie in. Errors: those of ReadProvenance() and ReadEmbedded().
absl::StatusOr<ModelConfigs> ReadModelConfigs(const Q4Model& model);

}  // namespace q4
