// The provenance names the folders, because only the converter knew them for certain: that "2_Dense/linear.weight" is a
// tensor of a folder cannot be told from its name.
#include "libconvert/export/model_part.h"

#include <algorithm>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/policy/transformers_folders.h"

namespace q4 {

absl::StatusOr<std::string> ReadEmbedded(const Q4Model& model, std::string_view name) {
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      if (file.name == name) return shard->ReadFile(file);
    }
  }
  return std::string();
}

absl::StatusOr<ModelConfigs> ReadModelConfigs(const Q4Model& model) {
  ModelConfigs configs;
  Q4_ASSIGN_OR_RETURN(configs.root, ReadEmbedded(model, "config.json"));
  const absl::StatusOr<ProvenanceView> provenance = ParseProvenance(ModelProvenance(model), model.path());
  if (!provenance.ok()) return configs;
  for (const SourceFileRecord& source : provenance->sources) {
    if (source.name.find('/') == std::string::npos) continue;
    std::string folder = DirectoryOf(source.name);
    if (IsModuleFolder(folder)) configs.folders.push_back(std::move(folder));
  }
  std::sort(configs.folders.begin(), configs.folders.end());
  configs.folders.erase(std::unique(configs.folders.begin(), configs.folders.end()), configs.folders.end());
  for (const std::string& folder : configs.folders) {
    Q4_ASSIGN_OR_RETURN(configs.texts.emplace_back(), ReadEmbedded(model, folder + "/config.json"));
  }
  return configs;
}

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
