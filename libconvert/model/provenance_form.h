// The closed form of a container's provenance (docs/format.md section 8): which members each schema has, of which
// types, and that a document is written in the one way that is canonical. Whoever reads provenance reads what this has
// accepted, so that no two readers can find different statements in one text.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"

namespace q4 {

// The document of one container file. `path` is named in errors: kQ4ProvenanceForm (exit code 6) names the member that
// breaks the form, kQ4ProvenanceNewer (5) the schema or arithmetic that this version does not know.
absl::StatusOr<Json> ParseProvenanceForm(std::string_view text, std::string_view path);

}  // namespace q4
