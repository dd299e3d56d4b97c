// Documents of q4.evaluate. One that is accepted is judged and shown without harm.
#include "libconvert/judge/evaluation_reader.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/gate_judge.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_report.h"

Q4_FUZZ_TARGET(evaluation) {
  using namespace q4;
  const auto document = ParseEvaluation(fuzz::TextOf(data, size), "e.json");
  if (!document.ok()) {
    fuzz::CheckError(document.status());
    return 0;
  }
  Q4_FUZZ_CHECK(!document->models.empty());
  const auto gate = ParseGate(R"({"rules": [{"scope": "evaluation", "max_kl_mean": 0.5, "min_cosine_min": 0}]})", "g");
  Q4_FUZZ_CHECK(gate.ok());
  for (const Evaluation& evaluation : document->models) {
    Q4_FUZZ_CHECK(!evaluation.numbers.empty());
    Q4_FUZZ_CHECK(evaluation.WorstLayers(3).size() <= 3);
    VerifyReport report = fuzz::SmallReport();
    report.evaluation = evaluation;
    FindingList findings;
    JudgeGates({*gate}, &findings, &report);
    findings.MoveTo(&report);
    Q4_FUZZ_CHECK(report.gates.size() == 2);
  }
  return 0;
}
