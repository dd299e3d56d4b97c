// What an export lacks because the container never had it: files that were left out at conversion, and code that the
// model's configuration asks for. Internal to libconvert/export/.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"

namespace q4 {

// A warning for each of the two, where there is anything to say; fit for a terminal. Reads the embedded configurations.
// Errors: those of reading them. A provenance that is no JSON says nothing.
absl::StatusOr<std::vector<std::string>> WarnOfLeftOut(const Q4Model& model);

}  // namespace q4
