// All that is wrong, in one place and under one count: problems, damage before differences from the source; then broken
// gates one by one, those farthest beyond their limits first.
#include <algorithm>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/format.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// A limit that is too strict breaks on every tensor. Five hundred rows make that clear; the JSON report has all.
constexpr std::size_t kBrokenShown = 500;

std::string ProblemList(const VerifyReport& report) {
  std::vector<const VerifyFinding*> problems = ProblemsBesideGates(report);
  const std::uint64_t unlisted = UnlistedFindings(report);
  std::stable_sort(problems.begin(), problems.end(),
                   [](const VerifyFinding* a, const VerifyFinding* b) { return KindOf(*a) < KindOf(*b); });
  std::string list;
  for (const VerifyFinding* finding : problems) {
    // Messages contain file names and tensor names, escaped for a terminal but not for HTML.
    list += fmt::format("<li><code>{}</code>", Text(Shown{finding->message}, kPathBytes));
    if (!finding->tensor.empty()) list += fmt::format("<br>{}", TensorLink(report, finding->tensor));
    list += "</li>\n";
  }
  // What was not listed may be a broken gate as well, which the table below has in any case.
  if (unlisted != 0)
    list += fmt::format("<li>{}, broken gates among them, not listed</li>\n", Counted(unlisted, "more finding"));
  return list.empty() ? "" : "<ul class=\"problems\">\n" + list + "</ul>\n";
}

std::string BrokenGatesTable(const VerifyReport& report) {
  const std::vector<const GateVerdict*> broken = BrokenGatesWorstFirst(report);
  if (broken.empty()) return {};
  std::vector<std::vector<std::string>> rows;
  // The subject first: it is what readers look for, and its link leads to all that is known of it.
  for (std::size_t i = 0; i < std::min(broken.size(), kBrokenShown); ++i) {
    const GateVerdict& verdict = *broken[i];
    rows.push_back({SubjectLink(report, verdict), Name(verdict.statistic),
                    fmt::format("<b class=\"failed\">{:.6g}</b>", verdict.value), LimitText(verdict),
                    Name(verdict.gate)});
  }
  using enum TableColumn::Kind;
  std::string text =
      fmt::format("<h3>{}, the worst first</h3>\n", Counted(broken.size(), "broken gate")) +
      CardTable("Broken gates", {{"subject"}, {"statistic"}, {"value", kNumber}, {"limit", kNumber}, {"gate"}}, rows);
  if (broken.size() > kBrokenShown) {
    text += fmt::format("<p class=\"note\">and {} more</p>\n", Grouped(broken.size() - kBrokenShown));
  }
  return text;
}

}  // namespace

std::string ProblemsSection(const VerifyReport& report) {
  const std::string body = ProblemList(report) + BrokenGatesTable(report);
  return body.empty() ? body : Section("problems", "What is broken", "", body);
}

}  // namespace q4::html
