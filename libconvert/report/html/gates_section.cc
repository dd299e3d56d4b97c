// Each rule with the subject nearest to its limit, which tells how much room is left: short for any model. Broken ones,
// one by one, are in problems_section.cc.
#include <algorithm>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/html/terms.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// A sign and a word besides the colour, for those who see no colours.
std::string State(bool passed) {
  return passed ? "<span class=\"passed\">✓ holds</span>" : "<span class=\"failed\">✕ broken</span>";
}

}  // namespace

std::string GatesSection(const VerifyReport& report) {
  if (report.gates.empty()) return {};
  std::vector<std::vector<std::string>> rows;
  // With a baseline every tensor has a limit of its own, and a column can show only one.
  for (const GateSummary& summary : SummarizeGates(report)) {
    const GateVerdict& closest = *summary.closest;
    rows.push_back({Name(closest.gate), State(summary.broken == 0), Name(closest.statistic),
                    summary.one_limit ? LimitText(closest) : "each its own",
                    fmt::format("{} of {}", Grouped(summary.subjects - summary.broken), Grouped(summary.subjects)),
                    fmt::format("{:.6g}", closest.value), SubjectLink(report, closest)});
  }
  // Broken rules first; among them, and among the others, in the order of the gate file.
  std::stable_partition(rows.begin(), rows.end(),
                        [](const std::vector<std::string>& row) { return row[1] == State(false); });
  std::string lead = report.baseline.empty() ? "" : "Baseline: " + Name(report.baseline);
  if (!report.baseline_encoders.empty()) lead += "; " + Text(Shown{BaselineEncodersText(report)});
  using enum TableColumn::Kind;
  return Section("gates", "Gates", lead,
                 Terms({"gate"}) + CardTable("Gates by rule",
                                             {{"gate"},
                                              {"state"},
                                              {"statistic"},
                                              {"limit", kNumber},
                                              {"hold", kNumber},
                                              {"closest", kNumber},
                                              {"closest subject"}},
                                             rows));
}

}  // namespace q4::html
