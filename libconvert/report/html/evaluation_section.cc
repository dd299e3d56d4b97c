// What the model computes, as q4.evaluate measured it: its numbers, then the layers whose outputs are farthest off. A
// layer whose weight is in the container leads to the row of that tensor.
#include <algorithm>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

constexpr std::size_t kLayersShown = 20;

// Modules have the names of the model's class, tensors those of the checkpoint, which need not agree.
std::string LayerCell(const VerifyReport& report, const EvaluatedLayer& layer) {
  const std::string tensor = layer.name + ".weight";
  const bool is_there = std::any_of(report.tensors.begin(), report.tensors.end(),
                                    [&](const VerifyTensor& known) { return known.name == tensor; });
  return is_there ? TensorLink(report, tensor) : Name(layer.name);
}

std::string LayerTable(const VerifyReport& report) {
  const Evaluation& evaluation = *report.evaluation;
  if (evaluation.layers.empty()) return {};
  std::vector<std::vector<std::string>> rows;
  for (const EvaluatedLayer* layer : evaluation.WorstLayers(kLayersShown)) {
    rows.push_back({LayerCell(report, *layer), EvaluationNumberText(layer->error), Grouped(layer->rows)});
  }
  using enum TableColumn::Kind;
  return "<h3>Layers whose outputs are farthest off</h3>\n" +
         CardTable("Layers by the error of their outputs",
                   {{"layer"}, {"relative squared error", kNumber}, {"inputs", kNumber}}, rows);
}

}  // namespace

std::string EvaluationSection(const VerifyReport& report) {
  if (!report.evaluation) return {};
  const Evaluation& evaluation = *report.evaluation;
  std::vector<std::vector<std::string>> rows;
  for (const auto& [number, value] : evaluation.numbers) {
    rows.push_back({std::string(number->what), Name(number->name), EvaluationNumberText(value)});
  }
  return Section(
      "evaluation", "Evaluation",
      fmt::format("{} against {}, from {}", EvaluatedText(evaluation),
                  Text(EvaluatedAgainstText(evaluation), kPathBytes), Name(evaluation.path, kPathBytes)),
      CardTable("Numbers of the evaluation", {{"what"}, {"name"}, {"value", TableColumn::Kind::kNumber}}, rows) +
          LayerTable(report));
}

}  // namespace q4::html
