// Broken gates come first and one by one; then each rule with the subject nearest to its limit, which tells how much
// room is left. The table by rule stays short for any model; that of broken gates is cut at kBrokenShown.
#include <algorithm>
#include <string>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// A limit that is too strict breaks on every tensor. Five hundred rows make that clear; the JSON report has all.
constexpr std::size_t kBrokenShown = 500;

// Only tensors have a row in the page that a link could lead to.
std::string Subject(const VerifyReport& report, const GateVerdict& verdict) {
  switch (verdict.scope) {
    case GateVerdict::Scope::kTensor:
      return TensorLink(report, verdict.subject);
    case GateVerdict::Scope::kLayer:
      return "layer " + Name(verdict.subject);
    case GateVerdict::Scope::kRole:
      return "role " + Name(verdict.subject);
    case GateVerdict::Scope::kEvaluation:
      return "evaluation";
    case GateVerdict::Scope::kModel:
      break;
  }
  return "model";
}

// Six digits: a limit that comes from a baseline has as many as a double can hold.
std::string Limit(const GateVerdict& verdict) {
  return fmt::format("{} {:.6g}", verdict.is_maximum ? "≤" : "≥", verdict.limit);
}

// A sign and a word besides the colour, for those who see no colours.
std::string State(bool passed) {
  return passed ? "<td class=\"passed\">✓ holds</td>" : "<td class=\"failed\">✕ broken</td>";
}

std::string BrokenTable(const VerifyReport& report) {
  // In the order of the report: tensors by name, layers, roles, the model.
  const std::vector<const GateVerdict*> broken = BrokenGates(report);
  if (broken.empty()) return {};
  std::string rows;
  // The subject first: it is what readers look for, and its link leads to all that is known of it.
  for (std::size_t i = 0; i < std::min(broken.size(), kBrokenShown); ++i) {
    const GateVerdict& verdict = *broken[i];
    rows += "<tr>" + TextCell(Subject(report, verdict)) + TextCell(Name(verdict.statistic)) +
            NumberCell(fmt::format("<b class=\"failed\">{:.6g}</b>", verdict.value)) + NumberCell(Limit(verdict)) +
            TextCell(Name(verdict.gate)) + "</tr>\n";
  }
  std::string text =
      "<h3>Broken</h3>\n" +
      ScrollTable("Broken gates",
                  "<th scope=\"col\">subject<th scope=\"col\">statistic<th scope=\"col\" class=\"n\">value"
                  "<th scope=\"col\" class=\"n\">limit<th scope=\"col\">gate",
                  rows);
  if (broken.size() > kBrokenShown) {
    text += fmt::format("<p class=\"note\">and {} more</p>\n", Grouped(broken.size() - kBrokenShown));
  }
  // The second heading is needed only below the first table.
  return text + "<h3>By rule</h3>\n";
}

}  // namespace

std::string GatesSection(const VerifyReport& report) {
  if (report.gates.empty()) return {};
  std::string rows;
  // With a baseline every tensor has a limit of its own, and a column can show only one.
  for (const GateSummary& summary : SummarizeGates(report)) {
    const GateVerdict& closest = *summary.closest;
    rows += "<tr>" + State(summary.broken == 0) + TextCell(Name(closest.gate)) + TextCell(Name(closest.statistic)) +
            NumberCell(summary.one_limit ? Limit(closest) : "each its own") +
            NumberCell(fmt::format("{} of {}", Grouped(summary.subjects - summary.broken), Grouped(summary.subjects))) +
            NumberCell(fmt::format("{:.6g}", closest.value)) + TextCell(Subject(report, closest)) + "</tr>\n";
  }
  std::string lead = report.baseline.empty() ? "" : "Baseline: " + Name(report.baseline);
  if (!report.baseline_encoders.empty()) lead += "; " + Text(Shown{BaselineEncodersText(report)});
  return Section(
      "gates", "Gates", lead,
      BrokenTable(report) +
          ScrollTable("Gates by rule",
                      "<th scope=\"col\">state<th scope=\"col\">gate<th scope=\"col\">statistic<th scope=\"col\" "
                      "class=\"n\">limit<th scope=\"col\" class=\"n\">hold<th scope=\"col\" class=\"n\">closest"
                      "<th scope=\"col\">of",
                      rows));
}

}  // namespace q4::html
