// What an export must not, or should not without a word, make of a container's content: weights of a foreign
// quantization, which containers of other versions may hold, and names that loaders do not find. Internal to
// libconvert/export/.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"
#include "libconvert/export/export.h"

namespace q4 {

// Looks at tensors, `configs` (those embedded) and the embedded files of quantizers, folder by folder. An export
// whose own configuration names a quantization is refused where they tell another one (kExportForeign): it would claim
// what is not so. A dequantized one is what the container was made from, which gets a warning. Names that wrappers
// changed (policy/wrappers.h) get a warning too. Fails also where an embedded file cannot be read.
absl::Status CheckForeign(const Q4Model& model, const ModelConfigs& configs, ExporterRow::Weights weights,
                          ExportReport* report);

// Whether the model came from GGUF, whose names and order of rows are llama.cpp's: no quantized export of it would load
// anywhere (kExportGguf), a dequantized one gets a warning. Asked first, as nothing else that a loader could miss
// counts then.
absl::Status CheckGguf(const Q4Model& model, const ModelConfigs& configs, ExporterRow::Weights weights,
                       ExportReport* report);

}  // namespace q4
