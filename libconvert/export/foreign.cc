// The container's tensors are described as a checkpoint's, so that one table (formats/source/quant_methods.h) serves
// both.
#include "libconvert/export/foreign.h"

#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/text.h"
#include "formats/source/foreign.h"
#include "formats/source/quant_methods.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/policy/wrappers.h"

namespace q4 {
namespace {

absl::StatusOr<std::vector<SideText>> SideTexts(const Q4Model& model, const std::string& config_json) {
  std::vector<SideText> texts;
  if (!config_json.empty()) texts.push_back({"config.json", model.path(), config_json});
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      if (!IsQuantizationFile(file.name)) continue;
      Q4_ASSIGN_OR_RETURN(std::string text, shard->ReadFile(file));
      texts.push_back({file.name, model.path(), std::move(text)});
    }
  }
  return texts;
}

}  // namespace

absl::Status CheckForeign(const Q4Model& model, const std::string& config_json, ExporterRow::Weights weights,
                          ExportReport* report) {
  std::vector<SourceTensor> tensors;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    SourceTensor& info = tensors.emplace_back();
    info.name = tensor.name;
    info.dtype = tensor.dtype;
    info.shape = tensor.shape;
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<SideText> texts, SideTexts(model, config_json));
  if (const auto foreign = FindQuantization(tensors, texts, model.path(), /*notes=*/nullptr)) {
    if (weights == ExporterRow::Weights::kQuantized) {
      return Fail(kExportForeign, model.path(), foreign->where,
                  fmt::format("{}; convert the unquantized checkpoint instead", foreign->name));
    }
    report->warnings.push_back(
        fmt::format("the container holds weights that were quantized before, by {} ({}): they are exported as they are",
                    foreign->name, Printable(foreign->where)));
  }
  const NameWrappers wrappers(tensors);
  if (!wrappers.empty()) report->warnings.push_back(wrappers.Note());
  return absl::OkStatus();
}

}  // namespace q4
