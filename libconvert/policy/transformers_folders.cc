// The configuration decides, not the class that modules.json names: that may be anybody's, and transformers itself asks
// config.json.
#include "libconvert/policy/transformers_folders.h"

#include <cstddef>

#include "formats/base/status.h"
#include "libconvert/policy/default.h"

namespace q4 {

absl::StatusOr<std::vector<std::string>> TransformersFolders(const ModelConfigs& configs) {
  if (configs.folders.empty()) return std::vector<std::string>{""};
  std::vector<std::string> folders;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> own, ModelKinds(configs.root));
  if (!own.empty()) folders.emplace_back();
  for (std::size_t i = 0; i < configs.folders.size(); ++i) {
    const auto kinds = ModelKinds(configs.texts[i]);
    if (!kinds.ok()) return InFile(kinds.status(), configs.folders[i]);
    if (!kinds->empty()) folders.push_back(configs.folders[i]);
  }
  return folders;
}

}  // namespace q4
