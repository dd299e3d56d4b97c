// Findings lie by the number of their rule until the end, so that the report has the same order however the tensors
// were visited.
#include "libconvert/lint/findings.h"

namespace q4 {

void LintFindings::Add(const LintRule& rule, std::string_view where, std::string_view detail) {
  Add(rule, where, Shown{Printable(detail, kMaxLintDetailBytes)});
}

void LintFindings::Add(const LintRule& rule, std::string_view where, Shown message) {
  OfRule& of_rule = by_number_[rule.issue.number];
  ++of_rule.count;
  // Counted all the same: the totals of the report are true.
  if (of_rule.kept.size() == kMaxLintFindingsPerRule) return;
  std::string place(where);
  if (!folder_.empty()) place = where.empty() ? folder_ : folder_ + "/" + place;
  of_rule.kept.push_back({&rule, std::move(place), Printable(message, kMaxLintDetailBytes)});
}

void LintFindings::MoveTo(LintReport* report) {
  for (auto& [number, of_rule] : by_number_) {
    const LintRule& rule = *of_rule.kept.front().rule;
    (rule.is_error() ? report->errors : rule.is_info ? report->infos : report->warnings) += of_rule.count;
    for (LintFinding& finding : of_rule.kept) report->findings.push_back(std::move(finding));
  }
}

}  // namespace q4
