#include "libconvert/report/format.h"

#include "fmt/format.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {

std::string TreatmentOf(const VerifyTensor& tensor) {
  Q4Tensor entry;
  entry.dtype = tensor.dtype;
  static_cast<QuantFormat&>(entry) = tensor;
  entry.encoder = tensor.encoder;
  return TreatmentName(entry);
}

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
    case GateVerdict::Scope::kModel:
      break;
  }
  return "model";
}

FindingKind KindOf(const VerifyFinding& finding) {
  if (finding.issue / 100 == 63) return FindingKind::kGate;
  return finding.issue / 100 == 62 ? FindingKind::kComparison : FindingKind::kIntegrity;
}

}  // namespace q4
