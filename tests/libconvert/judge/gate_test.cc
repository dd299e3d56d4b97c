#include "libconvert/judge/gate.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "libconvert/judge/baseline.h"
#include "libconvert/judge/gate_issues.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/judge/verify_groups.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/report/json.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

// A tensor of nmse `nmse`, largest error `largest` and mean error -0.5.
VerifyTensor JudgedTensor(const std::string& name, double nmse, double largest = 1) {
  VerifyTensor tensor;
  tensor.name = name;
  tensor.scheme = Q4Scheme::kNf4;
  tensor.block_size = 64;
  tensor.elems = tensor.stats.count = 1000;
  tensor.has_stats = true;
  tensor.stats.sum_e = -500;
  tensor.stats.sum_e2 = nmse * 1000;
  tensor.stats.sum_x2 = tensor.stats.sum_xy = 1000;
  tensor.stats.max_abs_err = largest;
  tensor.stats.clipped = 10;
  tensor.stats.hist[3] = 1000;
  return tensor;
}

VerifyReport ReportOf(std::vector<VerifyTensor> tensors) {
  VerifyReport report;
  report.path = "m.q4";
  report.tensors = std::move(tensors);
  AssignGroups(&report.tensors);
  SumUpStats(&report);
  return report;
}

VerifyReport Report() {
  return ReportOf({JudgedTensor("h.0.down.weight", 0.02), JudgedTensor("h.1.down.weight", 0.01),
                   JudgedTensor("h.1.up.weight", 0.01)});
}

Gate GateOf(const std::string& rules) { return test::Must(ParseGate("{\"rules\":[" + rules + "]}", "gate.json")); }

// "subject statistic" of the verdicts that failed, after checking that each is a finding too.
std::string Broken(const std::vector<Gate>& gates, VerifyReport* report) {
  FindingList findings;
  JudgeGates(gates, &findings, report);
  findings.MoveTo(report);
  std::string text;
  for (const GateVerdict& verdict : report->gates) {
    if (!verdict.passed) text += verdict.subject + " " + verdict.statistic + "; ";
  }
  return text;
}
std::string Broken(const std::string& rules) {
  VerifyReport report = Report();
  const std::string text = Broken({GateOf(rules)}, &report);
  for (const VerifyFinding& finding : report.findings) CHECK(finding.issue == kGateBreached.number);
  return text;
}

int IssueOf(const std::string& json) { return IssueNumberOf(ParseGate(json, "gate.json").status()); }
int IssueOfRule(const std::string& rule) { return IssueOf("{\"rules\":[" + rule + "]}"); }

TEST_CASE("each statistic is limited from above and from below, NaN breaks both") {
  VerifyTensor measured = JudgedTensor("a", 0.25);
  measured.absmax = {1, 4, 5};
  const VerifyReport report = ReportOf({measured});
  for (const GateStatistic& statistic : GateStatistics()) {
    const double value = statistic.of_absmax != nullptr ? statistic.of_absmax(report.tensors[0].absmax)
                                                        : statistic.value(report.tensors[0].stats);
    INFO(statistic.name << " " << value);
    REQUIRE(std::isfinite(value));
    for (const bool is_maximum : {true, false}) {
      for (const double step : {-1e-6, 0.0, 1e-6}) {
        VerifyReport copy = report;
        const Gate gate = FlagGate("--x", statistic.name, is_maximum, value + step, kGateBreached);
        CHECK(Broken({gate}, &copy).empty() == (is_maximum ? step >= 0 : step <= 0));
        CHECK(copy.gates.size() == 2);  // the tensor and the model
      }
    }
  }
  CHECK(GateStatisticNamed("bias").value(report.tensors[0].stats) == 0.5);
  CHECK(GateStatisticNamed("clipped_share").value(report.tensors[0].stats) == 0.01);
  VerifyReport odd = report;
  odd.tensors[0].stats.sum_x2 = std::numeric_limits<double>::quiet_NaN();
  CHECK(Broken({GateOf(R"({"max_nmse": 1e9})")}, &odd) == "a nmse; ");
  odd.gates.clear();
  CHECK(Broken({GateOf(R"({"min_nmse": 0})")}, &odd) == "a nmse; ");
}

TEST_CASE("errors beside absmax': what is measured is judged, what is not is a breach unless that is allowed") {
  CHECK(AbsmaxComparison{1, 0, 0}.Ratio() == 1);
  CHECK(std::isinf(AbsmaxComparison{1, 1e-300, 0}.Ratio()));
  CHECK(AbsmaxComparison{1, 0, 2}.Ratio() == 0);
  VerifyTensor measured = JudgedTensor("h.0.up.weight", 0.25), none = JudgedTensor("h.1.up.weight", 0.25);
  measured.absmax = {1, 4, 5};
  measured.encoder = Q4Encoder::kMse;
  none.encoder = Q4Encoder::kAbsmax;
  VerifyReport report = ReportOf({measured, none});
  CHECK(report.absmax.tensors == 1);
  CHECK(Broken({GateOf(R"({"scope": "model", "max_absmax_ratio": 0.79})")}, &report) == " absmax_ratio; ");
  report.gates.clear();
  CHECK(Broken({GateOf(R"({"encoder": "mse", "max_absmax_ratio": 0.8, "max_nmse": 1})")}, &report).empty());
  CHECK(report.gates.size() == 2);
  report.gates.clear(), report.findings.clear();
  CHECK(Broken({GateOf(R"({"max_absmax_ratio": 9})")}, &report) == "h.1.up.weight absmax_ratio; ");
  REQUIRE(report.findings.size() == 1);
  CHECK(report.findings[0].issue == kNotBesideAbsmax.number);
  CHECK(report.findings[0].tensor == "h.1.up.weight");
  report.gates.clear(), report.findings.clear();
  CHECK(Broken({GateOf(R"({"max_absmax_ratio": 0.1, "optional": true})")}, &report) == "h.0.up.weight absmax_ratio; ");
  report.gates.clear();
  CHECK(NeedsAbsmaxComparison({GateOf(R"({"max_absmax_ratio": 1})")}));
  for (const char* rule :
       {R"({"max_absmax_ratio": 1, "optional": true})", R"({"max_absmax_ratio": null})", R"({"max_nmse": 1})"}) {
    CHECK_FALSE(NeedsAbsmaxComparison({GateOf(rule)}));
    CHECK(CheckNeedsNoAbsmax({GateOf(rule)}, "way").ok());
  }
  CHECK(IssueNumberOf(CheckNeedsNoAbsmax({GateOf(R"({"max_absmax_ratio": 1})")}, "way")) == kGateNeedsAbsmax.number);
  CHECK(IssueOfRule(R"({"encoder": "best", "max_nmse": 1})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"encoder": "none", "max_nmse": 1})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"scope": "role", "encoder": "mse", "max_nmse": 1})") == kGateScope.number);
  CHECK(IssueOfRule(R"({"scope": "evaluation", "max_absmax_ratio": 1})") == kGateScope.number);
  // Beside a baseline of another encoder.
  VerifyReport before = report;
  before.tensors[0].encoder = Q4Encoder::kAbsmax;
  before.tensors[0].stats.sum_e2 /= 2;
  const Baseline baseline = test::Must(ParseBaseline(VerifyReportJson(before), "before.json", 0));
  FindingList findings;
  JudgeBaseline(baseline, &findings, &report);
  REQUIRE(report.baseline_encoders.size() == 1);
  CHECK(report.baseline_encoders[0].before == "absmax");
  CHECK(report.baseline_encoders[0].after == "mse");
  CHECK(report.baseline_encoders[0].tensors == 1);
  findings.MoveTo(&report);
  CHECK(report.findings.front().message.find("the encoder was absmax, now it is mse") != std::string::npos);
}

TEST_CASE("rules judge tensors, layers, roles and the model, in that order") {
  CHECK(Broken(R"({"max_nmse": 0.015})") == "h.0.down.weight nmse; ");
  CHECK(Broken(R"({"scope": "tensor", "match": "\\.down\\.", "min_sqnr_db": 99})") ==
        "h.0.down.weight sqnr_db; h.1.down.weight sqnr_db; ");
  CHECK(Broken(R"({"scope": "layer", "match": "\\.0$", "max_nmse": 0.015})") == "h.0 nmse; ");
  CHECK(Broken(R"({"scope": "role", "max_nmse": 0.0149})") == "down nmse; ");
  CHECK(Broken(R"({"scope": "model", "max_nmse": 0.0133}, {"scope": "role", "match": "up", "max_nmse": 0.001},
                  {"max_max_abs_err": 0.5, "match": "up"})") == "h.1.up.weight max_abs_err; up nmse;  nmse; ");
}

TEST_CASE("the last rule that matches and limits a statistic decides, each direction for itself") {
  CHECK(Broken(R"({"max_nmse": 0.001}, {"max_nmse": 0.1})").empty());
  CHECK(Broken(R"({"max_nmse": 0.1}, {"match": "up", "max_nmse": 0.001})") == "h.1.up.weight nmse; ");
  CHECK(Broken(R"({"max_nmse": 0.001}, {"max_mse": 100})") ==
        "h.0.down.weight nmse; h.1.down.weight nmse; h.1.up.weight nmse; ");
  CHECK(Broken(R"({"max_nmse": 0.001}, {"match": "down", "max_nmse": null})") == "h.1.up.weight nmse; ");
  CHECK(Broken(R"({"max_nmse": 0.001}, {"min_nmse": 0})").size() > 10);
}

TEST_CASE("type and block size choose tensors") {
  CHECK(Broken(R"({"type": "nf4", "block_size": 64, "max_nmse": 0.015})") == "h.0.down.weight nmse; ");
  CHECK(Broken(R"({"type": "fp4", "optional": true, "max_nmse": 0})").empty());
  CHECK(Broken(R"({"block_size": 128, "optional": true, "max_nmse": 0})").empty());
}

TEST_CASE("a gate that tests nothing is a finding") {
  for (const char* rule : {R"({"match": "nothing", "max_nmse": 1})", R"({"type": "fp4", "max_nmse": 1})",
                           R"({"scope": "role", "match": "q_proj", "max_nmse": 1})"}) {
    VerifyReport report = Report();
    Broken({GateOf(R"({"max_nmse": 1},)" + std::string(rule))}, &report);
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].issue == kGateMatchesNothing.number);
    CHECK(report.findings[0].message.find("gate.json, gate 'rule 2'") != std::string::npos);
  }
  VerifyReport empty = ReportOf({});
  Broken({GateOf(R"({"scope": "model", "max_nmse": 1})")}, &empty);
  CHECK(empty.finding_count == 1);
}

TEST_CASE("a breach names subject, rule, statistic, value and limit") {
  VerifyReport report = Report();
  Broken({GateOf(R"({"name": "down", "match": "0", "max_max_abs_err": 0.25})"),
          FlagGate("--max-nmse", "nmse", true, 0.015, kNmseTooHigh)},
         &report);
  REQUIRE(report.findings.size() == 2);
  CHECK(report.findings[0].message.starts_with(
      "m.q4: tensor 'h.0.down.weight': a gate is broken (gate 'down': max_abs_err: got 1"));
  CHECK(report.findings[0].message.find("expected at most 0.25) [Q4-6305]") != std::string::npos);
  CHECK(report.findings[0].tensor == "h.0.down.weight");
  CHECK(report.findings[1].issue == kNmseTooHigh.number);
  CHECK(report.findings[1].message.find("gate '") == std::string::npos);
}

TEST_CASE("a tensor without statistics breaks every limit on it, and is named once") {
  VerifyReport report = ReportOf({JudgedTensor("a", 0.01), JudgedTensor("b", 0.01)});
  report.tensors[1].has_stats = false;
  CHECK(Broken({GateOf(R"({"max_nmse": 1, "max_mse": 1000})"), GateOf(R"({"max_rmse": 1000})")}, &report) ==
        "b nmse; b mse; b rmse; ");
  REQUIRE(report.findings.size() == 1);
  CHECK(report.findings[0].issue == kNoStatsToJudge.number);
  report = ReportOf({JudgedTensor("a", 0.01)});
  report.tensors[0].scheme = Q4Scheme::kRaw;
  CHECK(Broken({GateOf(R"({"optional": true, "max_nmse": 0})")}, &report).empty());
}

TEST_CASE("what is no gate file is refused") {
  CHECK(IssueOf("{") == 3001);
  CHECK(IssueOf("[]") == kGateShape.number);
  CHECK(IssueOf("{}") == kGateShape.number);
  CHECK(IssueOf(R"({"rules": []})") == kGateShape.number);
  CHECK(IssueOf(R"({"rules": [1]})") == kGateShape.number);
  CHECK(IssueOf(R"({"rules": [{"max_nmse": 1}], "rule": []})") == kGateUnknownKey.number);
  CHECK(IssueOfRule(R"({"max_nmes": 1})") == kGateUnknownKey.number);
  CHECK(IssueOfRule(R"({"nmse": 1})") == kGateUnknownKey.number);
  CHECK(IssueOfRule(R"({"max_": 1})") == kGateUnknownKey.number);
  CHECK(IssueOfRule(R"({"max_nmse": "1"})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "scope": "tensors"})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "scope": 1})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "type": "q8"})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "block_size": 63})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "optional": 1})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "match": 1})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "name": 1})") == kGateValue.number);
  CHECK(IssueOfRule(R"({"match": "a"})") == kGateEmptyRule.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "scope": "model", "match": "a"})") == kGateScope.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "scope": "role", "type": "nf4"})") == kGateScope.number);
  CHECK(IssueOfRule(R"({"max_nmse": 1, "match": "("})") == 1201);
}

TEST_CASE("the default gate has a rule for each type and block size") {
  const absl::StatusOr<Gate> gate = ParseGate(kDefaultGateJson, "default");
  REQUIRE(gate.ok());
  for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
    for (std::uint32_t block_size = 32; block_size <= 4096; block_size *= 2) {
      VerifyTensor tensor = JudgedTensor("a", 0.5);
      tensor.scheme = scheme;
      tensor.block_size = block_size;
      VerifyReport report = ReportOf({tensor});
      CHECK(Broken({*gate}, &report) == "a nmse;  sqnr_db; ");
    }
  }
}

Baseline BaselineOf(const VerifyReport& report, double slack) {
  return test::Must(ParseBaseline(VerifyReportJson(report), "old.json", slack));
}

// The issues that a baseline finds.
std::vector<int> Regressions(const VerifyReport& before, VerifyReport* after, double slack = 0.005) {
  FindingList findings;
  JudgeBaseline(BaselineOf(before, slack), &findings, after);
  findings.MoveTo(after);
  std::vector<int> issues;
  for (const VerifyFinding& finding : after->findings) issues.push_back(finding.issue);
  return issues;
}

TEST_CASE("a baseline is broken by what became worse and by what is gone, and by nothing else") {
  const VerifyReport before = Report();
  VerifyReport after = Report();
  CHECK(Regressions(before, &after, 0).empty());
  CHECK(after.baseline == "old.json");
  CHECK(after.gates.size() == 3 + 2 + 2 + 1);
  CHECK(after.gates[0].gate == "baseline");

  after = ReportOf({JudgedTensor("h.0.down.weight", 0.02), JudgedTensor("h.1.down.weight", 0.01),
                    JudgedTensor("h.1.up.weight", 0.02)});
  CHECK(Regressions(before, &after).size() == 4);  // the tensor, its layer, its role, the model
  CHECK(after.findings[0].message.find("tensor 'h.1.up.weight': the error is worse than in the baseline (nmse: got "
                                       "0.02,") != std::string::npos);
  after.findings.clear();
  CHECK(Regressions(before, &after, 1.01).empty());

  after = ReportOf({JudgedTensor("h.0.down.weight", 0.02), JudgedTensor("h.1.down.weight", 0.01)});
  CHECK(Regressions(before, &after) == std::vector<int>{kBaselineTensorGone.number, kWorseThanBaseline.number});

  std::vector<VerifyTensor> kept{JudgedTensor("h.0.down.weight", 0.02), JudgedTensor("h.1.down.weight", 0.01),
                                 JudgedTensor("new", 0.9)};
  VerifyReport raw_before = ReportOf(kept);
  raw_before.tensors[1].scheme = Q4Scheme::kRaw;
  raw_before.tensors[1].has_stats = false;
  VerifyReport now = ReportOf(kept);
  CHECK(Regressions(raw_before, &now).front() == kWorseThanBaseline.number);  // was exact, is quantized
  now.tensors[1].has_stats = false;
  now.gates.clear();
  CHECK(Regressions(ReportOf(kept), &now).front() == kWorseThanBaseline.number);  // cannot be told any more
}

TEST_CASE("what is no report is no baseline") {
  const auto issue = [](const std::string& json) { return IssueNumberOf(ParseBaseline(json, "old.json", 0).status()); };
  CHECK(issue("{") == 3001);
  for (const char* json :
       {"[]", "{}", R"({"document":"q4verify-report"})", R"({"document":"q4verify-report","tensors":[]})",
        R"({"document":"q4verify-report","tensors":[1]})", R"({"document":"q4verify-report","tensors":[{"name":1}]})",
        R"({"document":"q4inspect-report","tensors":[{"name":"a","stats":{"nmse":1}}]})",
        R"({"document":"q4verify-report","tensors":[{"name":"a","stats":{"nmse":1}}],"groups":1})"}) {
    INFO(json);
    CHECK(issue(json) == kNoBaseline.number);
  }
  CHECK(issue(R"({"document":"q4verify-report","tensors":[{"name":"a","stats":{"nmse":1}}]})") == 0);
}

}  // namespace
}  // namespace q4
