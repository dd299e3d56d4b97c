// What a configuration redirects. transformers loads the file that config.json calls transformers_weights in place of
// model.safetensors, so a reader that went by the usual names would convert other weights than its user runs.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/json_value.h"

namespace q4 {

// What the text of a config.json says: a file name, "" if it names none or is no JSON object. kNamedWeights (exit code
// 3) if it is anything but the plain name of weights that have a reader, or of their index: transformers takes folders
// on the way and files of PEFT, too, but companions lie beside weights. The same for a member of an inner
// configuration, which is that of the model that some classes make of it. `path` is for messages.
absl::StatusOr<std::string> NamedWeightsOf(std::string_view config_json, std::string_view path);

// The same for `directory`, "" without a config.json; and that the file is there. A configuration that cannot be read
// as one names no weights here: who needs it says so. Errors besides: I/O (exit code 2).
absl::StatusOr<std::string> NamedWeightsIn(FileSystem& fs, const std::string& directory, SymbolicLinks links);

// Removes from a config.json, at whatever depth, what makes a loader take other weights than lie beside it, or code
// that lies nowhere near: transformers_weights; and implementations of attention or experts that are kernels of a
// repository, "owner/name", which transformers fetches and runs. save_pretrained() writes none of them. Whether there
// was one.
bool DropRedirects(Json* config);

}  // namespace q4
