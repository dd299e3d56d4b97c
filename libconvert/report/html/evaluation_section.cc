// What the model computes, as q4.evaluate measured it: its numbers, then the layers whose outputs are farthest off. A
// layer whose weight is in the container leads to the row of that tensor.
#include <algorithm>
#include <string>

#include "fmt/format.h"
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
  return TextCell(is_there ? TensorLink(report, tensor) : Name(layer.name));
}

std::string LayerTable(const VerifyReport& report) {
  const Evaluation& evaluation = *report.evaluation;
  if (evaluation.layers.empty()) return {};
  std::string rows;
  for (const EvaluatedLayer* layer : evaluation.WorstLayers(kLayersShown)) {
    rows += "<tr>" + LayerCell(report, *layer) + NumberCell(EvaluationNumberText(layer->error)) +
            NumberCell(fmt::format("{}", layer->rows)) + "</tr>\n";
  }
  return "<h3>Layers whose outputs are farthest off</h3>\n" +
         ScrollTable("Layers by the error of their outputs",
                     "<th scope=\"col\">layer<th scope=\"col\" class=\"n\">relative squared error"
                     "<th scope=\"col\" class=\"n\">inputs",
                     rows);
}

}  // namespace

std::string EvaluationSection(const VerifyReport& report) {
  if (!report.evaluation) return {};
  const Evaluation& evaluation = *report.evaluation;
  std::string rows;
  for (const auto& [number, value] : evaluation.numbers) {
    rows += "<tr>" + TextCell(std::string(number->what)) + TextCell(Name(number->name)) +
            NumberCell(EvaluationNumberText(value)) + "</tr>\n";
  }
  return Section("evaluation", "Evaluation",
                 fmt::format("{} against {}, from {}", EvaluatedText(evaluation),
                             Text(EvaluatedAgainstText(evaluation), kPathBytes), Name(evaluation.path, kPathBytes)),
                 ScrollTable("Numbers of the evaluation",
                             "<th scope=\"col\">what<th scope=\"col\">name<th scope=\"col\" class=\"n\">value", rows) +
                     LayerTable(report));
}

}  // namespace q4::html
