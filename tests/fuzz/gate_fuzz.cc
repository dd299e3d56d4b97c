// Gate files. One that is accepted judges a small report without harm, and twice alike.
#include "libconvert/judge/gate.h"
#include "libconvert/judge/gate_judge.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_report.h"

Q4_FUZZ_TARGET(gate) {
  using namespace q4;
  const auto gate = ParseGate(fuzz::TextOf(data, size), "gate.json");
  if (!gate.ok()) {
    fuzz::CheckError(gate.status());
    return 0;
  }
  VerifyReport first = fuzz::SmallReport(), second = fuzz::SmallReport();
  for (VerifyReport* report : {&first, &second}) {
    FindingList findings;
    JudgeGates({*gate}, &findings, report);
    findings.MoveTo(report);
  }
  Q4_FUZZ_CHECK(first.gates.size() == second.gates.size());
  Q4_FUZZ_CHECK(first.finding_count == second.finding_count);
  for (const VerifyFinding& finding : first.findings) Q4_FUZZ_CHECK(finding.issue / 100 == 63);
  return 0;
}
