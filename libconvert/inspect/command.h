// The command that makes a container again, from what its provenance records.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"

namespace q4 {

// A script for sh: comments that say of which files and by which version, the recipe, if any, as a here-document, and
// the command. What nobody records (where the source, an adapter, a calibration lie) are variables of the environment,
// SOURCE, ADAPTER and CALIBRATION, without which it ends with a message; OUTPUT has a default. The same source gives
// the same bytes. `path` names the container in messages and is the origin of OUTPUT. Errors: those of
// ReadProvenance(); kNoCommand (exit code 5) for a container that was packed anew from another one, whose own command
// is needed first, one that records no options, and options with characters that a script cannot show.
absl::StatusOr<std::string> RebuildCommand(const Q4Model& model, const std::string& path);

}  // namespace q4
