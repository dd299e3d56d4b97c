// The provenance names the folders, because only the converter knew them for certain: that "2_Dense/linear.weight" is a
// tensor of a folder cannot be told from its name.
#include "libconvert/model/model_configs.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "formats/base/file.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "libconvert/model/provenance_view.h"

namespace q4 {
namespace {

// The embedded file `name`, or "" when there is none.
absl::StatusOr<std::string> ReadEmbedded(const Q4Model& model, std::string_view name, std::uint64_t limit) {
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      if (file.name == name) return shard->ReadFile(file, limit);
    }
  }
  return std::string();
}

}  // namespace

absl::StatusOr<ModelConfigs> ReadModelConfigs(const Q4Model& model) {
  ModelConfigs configs;
  // One limit of all folders together.
  std::uint64_t left = limits::kConfigJsonBytes;
  Q4_ASSIGN_OR_RETURN(configs.root, ReadEmbedded(model, "config.json", left));
  Q4_ASSIGN_OR_RETURN(const ProvenanceView provenance, ReadProvenance(model));
  // Of weights that were quantized again, the first source: a container has no folders, and other names than GGUF.
  const Json* document = &provenance.document;
  if (const Json* parent = FindMember(*document, "parent"); parent != nullptr) {
    if (const Json* first = FindMember(*parent, "first"); first != nullptr) document = first;
  }
  configs.format = document->at("source").at("format").get<std::string>();
  for (const Json& source : document->at("source").at("files")) {
    const std::string name = source.at("name");
    if (name.find('/') == std::string::npos) continue;
    std::string folder = DirectoryOf(name);
    if (IsModuleFolder(folder)) configs.folders.push_back(std::move(folder));
  }
  std::sort(configs.folders.begin(), configs.folders.end());
  configs.folders.erase(std::unique(configs.folders.begin(), configs.folders.end()), configs.folders.end());
  for (const std::string& folder : configs.folders) {
    Q4_ASSIGN_OR_RETURN(configs.texts.emplace_back(), ReadEmbedded(model, folder + "/config.json", left));
    left -= configs.texts.back().size();
  }
  return configs;
}

}  // namespace q4
