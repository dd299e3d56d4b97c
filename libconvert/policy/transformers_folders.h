// Which folders of a model belong to transformers. Models of sentence-transformers have modules in folders of their own
// (formats/source/modules.h), and only those of transformers can be loaded in 4 bits.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/modules.h"

namespace q4 {

// The folders of a model whose config.json names a model type or an architecture, bytewise sorted; "" is the model's
// own directory. transformers loads those and can take them in 4 bits; sentence-transformers loads all others itself. A
// model without module folders is one of transformers whatever its config.json says. Fails for a config.json that is
// not JSON (exit code 3).
absl::StatusOr<std::vector<std::string>> TransformersFolders(const ModelConfigs& configs);

}  // namespace q4
