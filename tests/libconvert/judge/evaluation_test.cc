#include "libconvert/judge/evaluation.h"

#include <cmath>
#include <string>
#include <vector>

#include "libconvert/judge/evaluation_issues.h"
#include "libconvert/judge/evaluation_reader.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/gate_issues.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/report/html.h"
#include "libconvert/report/json.h"
#include "libconvert/report/junit.h"
#include "libconvert/report/markdown.h"
#include "libconvert/report/text.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

const std::string kDigest(64, 'a');

// A document with every key; what a test spoils it replaces.
std::string DocumentText() {
  return R"({"document":"q4-evaluation","version":1,"tool_version":"0.1.0","task":"causal_lm",)"
         R"("settings":{"max_length":512,"max_tokens":null,"batch_size":8,"layer_rows":512,"bootstrap":1000,"seed":0,)"
         R"("dtype":"auto"},"inputs":{"kind":"texts","sha256":")" +
         kDigest +
         R"(","sequences":16,"tokens":512,"truncated":0,"compared":496},"original":{"name":"original",)"
         R"("kind":"directory","path":"models/<llama>","root_sha256":null,"content_sha256":null,"sha256":")" +
         kDigest + R"(","files":[{"name":"model.safetensors","sha256":")" + kDigest +
         R"("}]},"models":[{"name":"nf4","kind":"container","path":"a.q4","root_sha256":")" + kDigest +
         R"(","content_sha256":null,"sha256":null,"files":[],"numbers":{"kl_mean":0.01,"kl_max":null,)"
         R"("top1_agreement":0.97},"layers":[{"name":"h.0.up","rows":64,"relative_error":0.02},)"
         R"({"name":"h.1.<b>","rows":64,"relative_error":null}]}]})";
}

std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = DocumentText();
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The issue of a document that is refused, and its message.
std::pair<int, std::string> Refused(const std::string& text) {
  const auto document = ParseEvaluation(text, "e.json");
  return document.ok() ? std::pair(0, std::string())
                       : std::pair(IssueNumberOf(document.status()), MessageOf(document.status()));
}

VerifyReport EvaluatedReport() {
  VerifyReport report;
  report.path = "m.q4";
  report.evaluation = test::Must(ParseEvaluation(DocumentText(), "e.json")).models.front();
  return report;
}

// Issues of the findings, and "statistic passed" of the verdicts.
std::string Judged(const std::vector<Gate>& gates, VerifyReport* report) {
  FindingList findings;
  JudgeGates(gates, &findings, report);
  findings.MoveTo(report);
  std::string text;
  for (const VerifyFinding& finding : report->findings) text += std::to_string(finding.issue) + " ";
  for (const GateVerdict& verdict : report->gates)
    text += verdict.statistic + (verdict.passed ? " holds; " : " broken; ");
  return text;
}

Gate GateOf(const std::string& rules) { return test::Must(ParseGate("{\"rules\":[" + rules + "]}", "gate.json")); }

TEST_CASE("a document of q4.evaluate is read whole") {
  const EvaluationDocument document = test::Must(ParseEvaluation(DocumentText(), "e.json"));
  REQUIRE(document.models.size() == 1);
  const Evaluation& evaluation = document.models.front();
  CHECK(evaluation.name == "nf4");
  CHECK(evaluation.original == "models/<llama>");
  CHECK(evaluation.compared == 496);
  CHECK(evaluation.root.has_value());
  CHECK_FALSE(evaluation.content.has_value());
  CHECK(evaluation.Number("kl_mean") == 0.01);
  CHECK(std::isnan(*evaluation.Number("kl_max")));
  CHECK_FALSE(evaluation.Number("cosine_mean").has_value());
  const auto worst = evaluation.WorstLayers(5);
  REQUIRE(worst.size() == 2);
  CHECK(worst.front()->name == "h.1.<b>");
  CHECK(evaluation.WorstLayers(1).size() == 1);
}

TEST_CASE("a document that is not as its schema has it is refused with its place") {
  const std::pair<std::string, std::string> kWrong[][2] = {
      {{R"("document":"q4-evaluation",)", ""}, {"", "document"}},
      {{"q4-evaluation", "q4verify-report"}, {"", "document"}},
      {{R"("task":"causal_lm",)", ""}, {"", "task"}},
      {{R"("task":"causal_lm")", R"("task":7)"}, {"", "task"}},
      {{R"("seed":0)", R"("seed":-1)"}, {"", "settings.seed"}},
      {{R"("seed":0)", R"("seed":0.5)"}, {"", "settings.seed"}},
      {{R"("seed":0)", R"("sead":0)"}, {"", "settings.seed"}},
      {{R"("seed":0)", R"("seed":0,"more":[[1]])"}, {"", "settings.more"}},
      {{R"("sequences":16)", R"("sequences":"16")"}, {"", "inputs.sequences"}},
      {{R"("sha256":"aaaa)", R"("sha256":"gaaa)"}, {"", "inputs.sha256"}},
      {{R"("files":[{)", R"("files":[{"size":1,)"}, {"", "original.files[0].size"}},
      {{R"("models":[{)", R"("models":[[],{)"}, {"", "models[0]"}},
      {{R"("kl_mean":0.01)", R"("kl_mean":-0.01)"}, {"", "models[0].numbers.kl_mean"}},
      {{R"("kl_mean":0.01)", R"("kl_mean":"0")"}, {"", "models[0].numbers.kl_mean"}},
      {{R"("kl_mean":0.01)", R"("kl_meen":0.01)"}, {"", "kl_meen"}},
      {{R"("top1_agreement":0.97)", R"("top1_agreement":1.5)"}, {"", "from 0 to 1"}},
      {{R"("rows":64)", R"("rows":-64)"}, {"", "models[0].layers[0]"}},
      {{R"("relative_error":0.02)", R"("relative_error":-1)"}, {"", "models[0].layers[0]"}},
      {{R"("relative_error":0.02)", R"("relative_error":0.02,"x":1)"}, {"", "models[0].layers[0]"}},
  };
  for (const auto& row : kWrong) {
    const auto [issue, message] = Refused(Replaced(row[0].first, row[0].second));
    INFO(row[0].first << " -> " << row[0].second << ": " << message);
    CHECK(issue == kEvaluationShape.number);
    CHECK(message.find(row[1].second) != std::string::npos);
  }
  CHECK(Refused(Replaced(R"("version":1)", R"("version":2)")).first == kEvaluationVersion.number);
  CHECK(Refused(Replaced(R"("version":1)", R"("version":"1")")).first == kEvaluationShape.number);
  CHECK(Refused("[]").first == kEvaluationShape.number);
  CHECK(
      Refused(Replaced(R"("numbers":{"kl_mean":0.01,"kl_max":null,"top1_agreement":0.97})", R"("numbers":{})")).first ==
      kEvaluationShape.number);
  // No JSON, keys that come twice, numbers beyond all doubles, documents without an end.
  CHECK(Refused("").first != 0);
  CHECK(Refused(DocumentText() + "x").first != 0);
  CHECK(Refused(Replaced(R"("task")", R"("task":"a","task")")).first != 0);
  CHECK(Refused(Replaced(R"("kl_mean":0.01)", R"("kl_mean":1e999)")).first != 0);
  CHECK(Refused(Replaced(R"("kl_mean":0.01)", R"("kl_mean":NaN)")).first != 0);
  CHECK(Refused(std::string(100'000, '[')).first != 0);
}

// Fuzzing in small: every text that lacks its end, and every one with one byte changed, is refused or read, never
// worse.
TEST_CASE("a document with any byte changed is refused or read") {
  const std::string text = DocumentText();
  std::size_t read = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    CHECK(Refused(text.substr(0, i)).first != 0);
    for (const char byte : {'\0', '"', '9', '{', '\xff'}) {
      std::string other = text;
      other[i] = byte;
      read += Refused(other).first == 0;
    }
  }
  CHECK(read < text.size());
}

TEST_CASE("gates limit numbers of an evaluation") {
  VerifyReport report = EvaluatedReport();
  CHECK(Judged({GateOf(R"({"scope":"evaluation","max_kl_mean":0.01,"min_top1_agreement":0.97})")}, &report) ==
        "kl_mean holds; top1_agreement holds; ");
  report = EvaluatedReport();
  CHECK(Judged({GateOf(R"({"scope":"evaluation","max_kl_mean":0.009})")}, &report) == "6305 kl_mean broken; ");
  CHECK(report.findings.front().message.find("evaluation") != std::string::npos);
  // Null breaks every limit, in either direction.
  report = EvaluatedReport();
  CHECK(Judged({GateOf(R"({"scope":"evaluation","max_kl_max":1e9,"min_kl_max":0})")}, &report) ==
        "6305 6305 kl_max broken; kl_max broken; ");
  // The last rule decides; null lifts.
  report = EvaluatedReport();
  CHECK(Judged({GateOf(R"({"scope":"evaluation","max_kl_mean":0},{"scope":"evaluation","max_kl_mean":null})")}, &report)
            .empty());
  // A number that it does not hold.
  report = EvaluatedReport();
  CHECK(Judged({GateOf(R"({"scope":"evaluation","min_cosine_mean":0.9})")}, &report) == "6940 cosine_mean broken; ");
  report = EvaluatedReport();
  CHECK(Judged({GateOf(R"({"scope":"evaluation","min_cosine_mean":0.9,"optional":true})")}, &report).empty());
}

TEST_CASE("numbers of an evaluation and statistics of weights have scopes of their own") {
  for (const std::string rule :
       {R"({"max_kl_mean":1})", R"({"scope":"model","max_kl_mean":1})", R"({"scope":"evaluation","max_nmse":1})",
        R"({"scope":"evaluation","match":"a","max_kl_mean":1})",
        R"({"scope":"evaluation","type":"nf4","max_kl_mean":1})"}) {
    INFO(rule);
    CHECK(IssueNumberOf(ParseGate("{\"rules\":[" + rule + "]}", "g").status()) == kGateScope.number);
  }
  CHECK(IssueNumberOf(ParseGate(R"({"rules":[{"scope":"evaluation","max_kl_mena":1}]})", "g").status()) ==
        kGateUnknownKey.number);
  const Gate gate = GateOf(R"({"scope":"evaluation","max_kl_mean":1})");
  CHECK(IssueNumberOf(CheckNeedsNoEvaluation({gate}, "give one")) == kGateNeedsEvaluation.number);
  CHECK(CheckNeedsNoEvaluation({GateOf(R"({"scope":"evaluation","max_kl_mean":1,"optional":true},{"max_nmse":1})")}, "")
            .ok());
}

TEST_CASE("a limit is read as it is typed") {
  for (const std::string text :
       {"kl_mean <= 0.01", "kl_mean<=0.01", "  kl_mean   <= 1e-2 ", "top1_agreement >= 0.97"}) {
    INFO(text);
    VerifyReport report = EvaluatedReport();
    CHECK(Judged({test::Must(ParseEvaluationLimit(text, "--limit"))}, &report).find("broken") == std::string::npos);
    CHECK(report.gates.size() == 1);
  }
  VerifyReport report = EvaluatedReport();
  CHECK(Judged({test::Must(ParseEvaluationLimit("top1_agreement >= 0.98", "--limit"))}, &report) ==
        "6305 top1_agreement broken; ");
  for (const std::string text :
       {"", "kl_mean", "kl_mean < 0.1", "kl_mean = 1", "kl_mean <= ", "kl_mean <= x", "kl_mean <= nan",
        "kl_mean <= inf", "kl_mean <= 1 2", "<= 1", "kl_meen <= 1", "nmse <= 1", "kl_mean >< 1"}) {
    INFO(text);
    CHECK(IssueNumberOf(ParseEvaluationLimit(text, "--limit").status()) == kBadLimit.number);
  }
}

TEST_CASE("every report shows an evaluation, as text and nothing else") {
  VerifyReport report = EvaluatedReport();
  report.evaluation->original_is_source = false;
  Judged({GateOf(R"({"scope":"evaluation","max_kl_mean":0.001})")}, &report);
  const std::string text = VerifyReportText(report), json = VerifyReportJson(report), html = VerifyReportHtml(report);
  const std::string markdown = VerifyReportMarkdown(report), junit = VerifyReportJunit(report);
  for (const std::string& rendered : {text, html, markdown}) {
    CHECK(rendered.find("0.010000") != std::string::npos);
    CHECK(rendered.find("which is not what the container was made from") != std::string::npos);
  }
  CHECK(json.find("\"kl_mean\": 0.01") != std::string::npos);
  CHECK(json.find("\"original_is_source\": false") != std::string::npos);
  CHECK(html.find("id=\"evaluation\"") != std::string::npos);
  CHECK(html.find("<llama>") == std::string::npos);
  CHECK(html.find("h.1.<b>") == std::string::npos);
  CHECK(junit.find("the evaluation is of this container") != std::string::npos);
  CHECK(junit.find("<llama>") == std::string::npos);
  report.evaluation.reset();
  CHECK(VerifyReportHtml(report).find("id=\"evaluation\"") == std::string::npos);
  CHECK(VerifyReportJson(report).find("\"evaluation\": null") != std::string::npos);
}

}  // namespace
}  // namespace q4
