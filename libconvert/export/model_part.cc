#include "libconvert/export/model_part.h"

#include "formats/base/status.h"
#include "libconvert/policy/transformers_folders.h"

namespace q4 {

absl::StatusOr<std::vector<ModelPart>> TransformersParts(const Q4Model& model, const ModelConfigs& configs) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> folders, TransformersFolders(configs));
  std::vector<ModelPart> parts;
  for (const std::string& folder : folders) {
    ModelPart part;
    part.folder = folder;
    part.path = model.path();
    const std::string prefix = part.In("");
    part.config_json = configs.Of(prefix);
    for (const Q4Model::Location& at : model.tensors()) {
      const Q4Tensor& tensor = model.tensor(at);
      if (ModuleFolderOf(configs.folders, tensor.name) != folder) continue;
      part.tensors.push_back({&tensor, tensor.name.substr(prefix.size())});
    }
    if (!part.tensors.empty() || configs.folders.empty()) parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace q4
