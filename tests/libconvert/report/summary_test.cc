#include "libconvert/report/summary.h"

#include <limits>

#include "libconvert/report/format.h"
#include "tests/libconvert/report/sample.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("gates are summed up by rule, with the worst broken one or the nearest to its limit") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(0, &report);
  std::vector<GateSummary> rules = SummarizeGates(report);
  REQUIRE(rules.size() == 2);
  CHECK(rules[0].subjects == 14);
  CHECK(rules[0].broken == 0);
  CHECK(rules[0].one_limit);
  for (const GateVerdict& verdict : report.gates) {
    if (verdict.gate == "weights") CHECK(verdict.value <= rules[0].closest->value);
  }
  CHECK(rules[1].closest->scope == GateVerdict::Scope::kModel);

  // A broken gate outranks all that hold; of broken ones a value that does not exist outranks all.
  report.gates[3].passed = false;
  report.gates[3].limit = 0.001;
  rules = SummarizeGates(report);
  CHECK(rules[0].closest == &report.gates[3]);
  CHECK(rules[0].broken == 1);
  CHECK_FALSE(rules[0].one_limit);
  report.gates[1].passed = false;
  report.gates[1].value = std::numeric_limits<double>::quiet_NaN();
  CHECK(SummarizeGates(report)[0].closest == &report.gates[1]);
  CHECK(BrokenGates(report).size() == 2);
}

TEST_CASE("a gate's finding is not told twice, but one without a verdict is") {
  VerifyReport report = test::SampleReport(1);
  test::AddGates(2, &report);
  CHECK(ProblemsBesideGates(report).empty());
  report.findings.push_back({6304, "model.layers.0.self_attn.v_proj.weight", "no statistics"});
  report.gates.back().passed = false;  // the model's
  report.findings.push_back({6302, "", "model: SQNR is below the limit"});
  report.findings.push_back({6306, "", "a rule matches nothing"});
  test::AddProblems(&report);
  CHECK(ProblemsBesideGates(report).size() == 7);
  report.finding_count = 1000;
  CHECK(UnlistedFindings(report) == 1000 - report.findings.size());
}

TEST_CASE("the worst tensors come first, and those without statistics not at all") {
  VerifyReport report = test::SampleReport(3);
  report.tensors.back().stats.sum_x2 = 0;  // NMSE infinite
  const std::vector<const VerifyTensor*> worst = WorstTensors(report, 100);
  REQUIRE(worst.size() == 21);
  CHECK(worst.front() == &report.tensors.back());
  for (std::size_t i = 1; i < worst.size(); ++i) {
    CHECK(Derive(worst[i - 1]->stats).nmse >= Derive(worst[i]->stats).nmse);
  }
  CHECK(WorstTensors(report, 5).size() == 5);
}

TEST_CASE("the worst blocks are those of all tensors, with values where there was a source") {
  VerifyReport report = test::SampleReport(2);
  std::vector<RankedBlock> blocks = RankedBlocks(report, 1000);
  CHECK(blocks.size() == 14 * kWorstBlocks);
  CHECK(blocks.front().sum_e2 >= blocks.back().sum_e2);
  CHECK(blocks.front().values != nullptr);
  for (VerifyTensor& tensor : report.tensors) tensor.worst_blocks.clear();
  blocks = RankedBlocks(report, 1000);
  CHECK(blocks.size() == 14);
  CHECK(blocks.front().values == nullptr);
  CHECK(blocks.front().block == blocks.front().tensor->stats.worst_block);
}

TEST_CASE("an element's position follows from the shape") {
  CHECK(ElementPosition({}, 0) == "[0]");
  CHECK(ElementPosition({7}, 5) == "[5]");
  CHECK(ElementPosition({3, 4}, 7) == "[1, 3]");
  CHECK(ElementPosition({2, 3, 4}, 23) == "[1, 2, 3]");
  CHECK(ElementPosition({0, 4}, 0) == "[0, 0]");
}

TEST_CASE("gates and treatments are named as everywhere") {
  const VerifyReport report = test::SampleReport(1);
  CHECK(TreatmentOf(report.tensors[0]) == "BF16");
  CHECK(TreatmentOf(report.tensors[1]) == "nf4 b64 dq");
  const GateVerdict verdict{"weights", GateVerdict::Scope::kRole, "q_proj", "nmse", true, 0.01, 0.02, false};
  CHECK(GateRuleText(verdict) == "weights: nmse at most 0.01");
  CHECK(GateSubject(verdict) == "role 'q_proj'");
  CHECK(KindOf({6207, "", ""}) == FindingKind::kComparison);
  CHECK(KindOf({6301, "", ""}) == FindingKind::kGate);
  CHECK(KindOf({7044, "", ""}) == FindingKind::kIntegrity);
}

}  // namespace
}  // namespace q4
