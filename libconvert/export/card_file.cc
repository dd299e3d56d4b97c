#include "libconvert/export/card_file.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/card/card.h"
#include "libconvert/model/bnb_record.h"

namespace q4 {
namespace {

// Where nobody asked for a card or against one. An export of weights that were taken over gives back the directory that
// they came in; a directory of somebody's has a README of his; a part of a model is not the model.
bool IsUsual(const Q4Model& model, const ExporterRow& row, const ExportOptions& options) {
  if (row.weights != ExporterRow::Weights::kQuantized || options.into || !options.tensor_pattern.empty()) return false;
  return std::none_of(model.tensors().begin(), model.tensors().end(),
                      [&](const Q4Model::Location& at) { return IsTakenOver(model.tensor(at)); });
}

// "README.original.md", or the first of README.original-2.md and so on that no embedded file has.
std::string FreeName(const Q4Model& model) {
  std::set<std::string> names;
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) names.insert(absl::AsciiStrToLower(file.name));
  }
  for (int number = 1;; ++number) {
    std::string name = number == 1 ? "README.original.md" : fmt::format("README.original-{}.md", number);
    if (!names.contains(absl::AsciiStrToLower(name))) return name;
  }
}

bool IsEmbedded(const Q4Model& model, std::string_view name) {
  return std::any_of(model.shards().begin(), model.shards().end(), [name](const auto& shard) {
    const auto& files = shard->index().files;
    return std::any_of(files.begin(), files.end(), [name](const Q4EmbeddedFile& file) { return file.name == name; });
  });
}

}  // namespace

absl::StatusOr<CardFile> PlanCard(const Q4Model& model, const ModelConfigs& configs, const ExporterRow& row,
                                  const ExportOptions& options, const ExportReport& report) {
  CardFile planned;
  if (options.card == ModelCardUse::kNever) return planned;
  const bool in_4bit = report.quantized_tensors != 0;
  if (options.card == ModelCardUse::kUsual && !(in_4bit && IsUsual(model, row, options))) return planned;
  CardRequest request;
  request.of = in_4bit ? CardRequest::Of::kBitsandbytes : CardRequest::Of::kDequantized;
  if (in_4bit) request.decoded = report.dequantized_tensors;
  request.base_model = options.base_model;
  request.output_bytes = report.tensor_bytes;
  if (const Q4EmbeddedFile* const original = FindCard(model); original != nullptr) {
    Q4_ASSIGN_OR_RETURN(const std::string head, ReadCardHead(model, *original));
    planned.replaced = original->name;
    if (!IsOurCard(head)) {
      planned.copied_as = request.original = FreeName(model);
    } else if (IsEmbedded(model, "README.original.md")) {
      // Of the export that this container was made of.
      request.original = "README.original.md";
    }
  }
  Q4_ASSIGN_OR_RETURN(std::string text, ModelCard(model, configs, request));
  planned.card = SmallFile{std::string(kCardName), std::move(text)};
  return planned;
}

}  // namespace q4
