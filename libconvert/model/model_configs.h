// The configurations that a container holds: its own, and those of the module folders that its tensors came from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"

namespace q4 {

// The embedded file `name`, or "" when there is none; kFileTooLarge beyond `limit` bytes. Errors: those of
// Q4Reader::ReadFile().
absl::StatusOr<std::string> ReadEmbedded(const Q4Model& model, std::string_view name, std::uint64_t limit);

// The module folders of a container with its embedded configurations. The folders are those that source files of the
// provenance lie in. Together they have at most limits::kConfigJsonBytes. Errors: those of ReadProvenance() and
// ReadEmbedded().
absl::StatusOr<ModelConfigs> ReadModelConfigs(const Q4Model& model);

}  // namespace q4
