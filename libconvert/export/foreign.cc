// The container's tensors are described as a checkpoint's, so that one table (formats/folder/quant_methods.h) serves
// both.
#include "libconvert/export/foreign.h"

#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/text.h"
#include "formats/folder/quant_methods.h"
#include "formats/gguf/gguf.h"
#include "formats/source/foreign.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/policy/wrappers.h"

namespace q4 {
namespace {

// Of one folder, "" for the model's own.
absl::StatusOr<std::vector<SideText>> SideTexts(const Q4Model& model, std::string_view folder,
                                                const std::string& config_json) {
  std::vector<SideText> texts;
  if (!config_json.empty()) texts.push_back({"config.json", model.path(), config_json});
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      const std::string above = file.name.find('/') == std::string::npos ? std::string() : DirectoryOf(file.name);
      if (above != folder || !IsQuantizationFile(BaseNameOf(file.name))) continue;
      Q4_ASSIGN_OR_RETURN(std::string text, shard->ReadFile(file, limits::kConfigJsonBytes));
      texts.push_back({BaseNameOf(file.name), model.path(), std::move(text)});
    }
  }
  return texts;
}

}  // namespace

absl::Status CheckGguf(const Q4Model& model, const ModelConfigs& configs, ExporterRow::Weights weights,
                       ExportReport* report) {
  if (!IsGgufFormat(configs.format)) return absl::OkStatus();
  if (weights == ExporterRow::Weights::kQuantized) return Fail(kExportGguf, model.path(), {});
  report->warnings.push_back(
      "the model came from GGUF: tensors have the names, and rows of attention weights the order, of llama.cpp, which "
      "transformers does not load");
  return absl::OkStatus();
}

absl::Status CheckForeign(const Q4Model& model, const ModelConfigs& configs, ExporterRow::Weights weights,
                          ExportReport* report) {
  // What was embedded without a tensor beside it is a folder, too: the model's own.
  std::map<std::string_view, std::vector<SourceTensor>> folders = {{"", {}}};
  std::set<std::string_view> taken_over;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    const std::string_view folder = ModuleFolderOf(configs.folders, tensor.name);
    SourceTensor& info = folders[folder].emplace_back();
    info.name = folder.empty() ? tensor.name : tensor.name.substr(folder.size() + 1);
    info.dtype = tensor.dtype;
    info.shape = tensor.shape;
    if (IsTakenOver(tensor)) taken_over.insert(folder);
  }
  for (const auto& [folder, tensors] : folders) {
    const std::string& config_json = configs.Of(folder.empty() ? std::string() : std::string(folder) + "/");
    Q4_ASSIGN_OR_RETURN(const std::vector<SideText> texts, SideTexts(model, folder, config_json));
    const auto foreign = FindQuantization(tensors, texts, model.path(), /*notes=*/nullptr);
    // Of weights that were taken over the configuration says what they are.
    if (foreign && !(foreign->name == kBnb4Bit && taken_over.contains(folder))) {
      if (weights == ExporterRow::Weights::kQuantized) {
        return Fail(kExportForeign, model.path(), foreign->where,
                    fmt::format("{}; convert the unquantized checkpoint instead", foreign->name));
      }
      report->warnings.push_back(fmt::format(
          "the container holds weights that were quantized before, by {} ({}): they are exported as they are",
          foreign->name, Printable(foreign->where)));
    }
    const NameWrappers wrappers(tensors);
    if (!wrappers.empty()) report->warnings.push_back(wrappers.Note());
  }
  return absl::OkStatus();
}

}  // namespace q4
