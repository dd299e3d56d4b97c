// Words of reports. Everything else that a report prints (numbers, tables, markup) is its own affair, because a
// terminal, a pull request and a program want different precision.
#include "libconvert/report/format.h"

#include "fmt/format.h"
#include "libconvert/judge/evaluation_issues.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {

// The name of a treatment is computed in one place, from the entry of a container. A report keeps the same facts in its
// own struct, so they are put into an entry that has nothing else.
std::string TreatmentOf(const VerifyTensor& tensor) {
  Q4Tensor entry;
  entry.dtype = tensor.dtype;
  static_cast<QuantFormat&>(entry) = tensor;
  entry.encoder = tensor.encoder;
  return TreatmentName(entry);
}

// This text is the name of a JUnit test case as well. Test views recognise a case by its name from run to run, so it
// must not hold the value that was measured.
std::string GateRuleText(const GateVerdict& verdict) {
  return fmt::format("{}: {} {} {}", verdict.gate, verdict.statistic, verdict.is_maximum ? "at most" : "at least",
                     verdict.limit);
}

std::string GateSubject(const GateVerdict& verdict) {
  switch (verdict.scope) {
    case GateVerdict::Scope::kTensor:
      return "tensor '" + verdict.subject + "'";
    case GateVerdict::Scope::kLayer:
      return "layer '" + verdict.subject + "'";
    case GateVerdict::Scope::kRole:
      return "role '" + verdict.subject + "'";
    case GateVerdict::Scope::kEvaluation:
      return "evaluation";
    case GateVerdict::Scope::kModel:
      break;
  }
  return "model";
}

FindingKind KindOf(const VerifyFinding& finding) {
  // Issue numbers are given out by hundreds (docs/errors.md), so the kind needs no table; of what is held against the
  // record, some needs the source.
  if (finding.issue / 100 == 63 || finding.issue == kEvaluationLacks.number ||
      finding.issue == kNotBesideAbsmax.number) {
    return FindingKind::kGate;
  }
  for (const Issue& issue : {kOptionsNotRecorded, kCodesNotNearest, kAboveProofBound, kUnproven}) {
    if (finding.issue == issue.number) return FindingKind::kComparison;
  }
  return finding.issue / 100 == 62 ? FindingKind::kComparison : FindingKind::kIntegrity;
}

}  // namespace q4
