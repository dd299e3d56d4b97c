// Earlier reports as baselines. One that is accepted is compared with a small report without harm.
#include "libconvert/judge/baseline.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_report.h"

Q4_FUZZ_TARGET(baseline) {
  using namespace q4;
  const auto baseline = ParseBaseline(fuzz::TextOf(data, size), "before.json", 0.01);
  if (!baseline.ok()) {
    fuzz::CheckError(baseline.status());
    return 0;
  }
  VerifyReport report = fuzz::SmallReport();
  FindingList findings;
  JudgeBaseline(*baseline, &findings, &report);
  findings.MoveTo(&report);
  Q4_FUZZ_CHECK(report.gates.size() <= baseline->entries.size());
  Q4_FUZZ_CHECK(report.finding_count <= baseline->entries.size());
  return 0;
}
