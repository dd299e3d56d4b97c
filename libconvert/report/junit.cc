// A viewer shows a tree of cases and whether each passed, so every tensor is a case even when all is well: one that is
// missing from the list would go unnoticed. What concerns no tensor has a case of its own.
//
// Findings are first sorted into suites by their issue number, then by the tensor that they name. Each suite walks over
// the tensors of the report and takes its failures from there. Whatever remains names no tensor of the container, and
// becomes a case at the end.
#include "libconvert/report/junit.h"

#include <map>
#include <string_view>
#include <vector>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/text.h"
#include "libconvert/report/format.h"
#include "libconvert/report/summary.h"

namespace q4 {
namespace {

// Names and messages are bounded, because a container may hold a name of many kilobytes and repeat it in every message.
constexpr std::size_t kXmlNameBytes = 1024;
constexpr std::size_t kXmlMessageBytes = 4096;

// Text fit for an attribute in double quotes and for an element. Printable() leaves only characters that XML 1.0
// allows. `text` is untrusted, or Shown.
template <typename Text>
std::string Xml(const Text& text, std::size_t max_bytes) {
  std::string escaped;
  for (const char c : Printable(text, max_bytes)) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '>') {
      escaped += "&gt;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else {
      escaped.push_back(c);
    }
  }
  return escaped;
}

struct Failure {
  std::string type;     // "Q4-6207"
  std::string message;  // Shown
};

// One <testsuite>. Cases are rendered as they come, and the counts that the opening tag needs are known when Text() is
// asked. A failure is always a <failure>, never an <error>: JUnit means by the latter that the test itself crashed.
class Suite {
 public:
  explicit Suite(std::string_view name) : name_(name) {}

  void Pass(std::string_view test) { cases_ += Opening(test) + "/>\n"; }
  void Skip(std::string_view test, std::string_view reason) {
    ++skipped_;
    cases_ += fmt::format("{}>\n      <skipped message=\"{}\"/>\n    </testcase>\n", Opening(test),
                          Xml(reason, kXmlMessageBytes));
  }
  // Readers show one failure per case: its message is the first, its text lists all.
  void Fail(std::string_view test, const std::vector<Failure>& failures) {
    ++failed_;
    std::string lines;
    for (const Failure& failure : failures)
      lines += (lines.empty() ? "" : "\n") + Xml(Shown{failure.message}, kXmlMessageBytes);
    cases_ += fmt::format("{}>\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n",
                          Opening(test), Xml(failures.front().type, kXmlNameBytes),
                          Xml(Shown{failures.front().message}, kXmlMessageBytes), lines);
  }
  void PassOrFail(std::string_view test, const std::vector<Failure>* failures) {
    failures == nullptr ? Pass(test) : Fail(test, *failures);
  }

  std::uint64_t tests() const { return tests_; }
  std::uint64_t failed() const { return failed_; }
  std::uint64_t skipped() const { return skipped_; }
  std::string Text() const {
    return fmt::format(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n{}  </testsuite>\n", name_,
        tests_, failed_, skipped_, cases_);
  }

 private:
  // Every case begins here, so here they are counted.
  std::string Opening(std::string_view test) {
    ++tests_;
    return fmt::format("    <testcase classname=\"q4.{}\" name=\"{}\"", name_, Xml(test, kXmlNameBytes));
  }

  std::string name_, cases_;
  std::uint64_t tests_ = 0, failed_ = 0, skipped_ = 0;
};

// Failures by the tensor they name, "" for none.
using Failures = std::map<std::string, std::vector<Failure>, std::less<>>;

const std::vector<Failure>* Find(const Failures& failures, std::string_view tensor) {
  const auto at = failures.find(tensor);
  return at == failures.end() ? nullptr : &at->second;
}

// Four digits, as error lines print it: docs/errors.md can be searched for it.
std::string IssueName(int issue) { return fmt::format("Q4-{:04}", issue); }

// What concerns the container alone. A tensor that failed for reasons that were not listed fails here, since it must
// fail somewhere.
Suite IntegritySuite(const VerifyReport& report, const Failures& failures, const Failures& unlisted) {
  Suite suite("integrity");
  suite.PassOrFail("container", Find(failures, ""));
  for (const VerifyTensor& tensor : report.tensors) {
    const std::vector<Failure>* failure = Find(failures, tensor.name);
    suite.PassOrFail(tensor.name, failure != nullptr ? failure : Find(unlisted, tensor.name));
  }
  // Without this case a viewer would show as few failures as findings were listed.
  if (UnlistedFindings(report) != 0) {
    suite.Fail("problems that are not listed", {{"unlisted", fmt::format("{} more", UnlistedFindings(report))}});
  }
  return suite;
}

// What the verdict rests on. A check that was made in part is skipped too: what it did not look at is.
Suite CheckSuite(const VerifyReport& report) {
  Suite suite("checks");
  for (const CheckMade& check : ChecksMade(report)) {
    if (check.extent == CheckMade::Extent::kWhole) {
      suite.Pass(check.name);
    } else {
      suite.Skip(check.name, fmt::format("{}: {}", ExtentName(check.extent), check.detail));
    }
  }
  return suite;
}

// What compares with the source. `failures` is a copy that is emptied on the way, so that what is left can be told from
// what was shown. A sample counts as compared: the case says that what was looked at holds.
Suite ComparisonSuite(const VerifyReport& report, Failures failures) {
  Suite suite("comparison");
  // What names no tensor concerns embedded files and the source as a whole. First: another source is the cause of all
  // that follows.
  const auto files = failures.extract("");
  suite.PassOrFail("source and embedded files", files.empty() ? nullptr : &files.mapped());
  for (const VerifyTensor& tensor : report.tensors) {
    const auto failure = failures.find(tensor.name);
    if (failure != failures.end()) {
      suite.Fail(tensor.name, failure->second);
      failures.erase(failure);
    } else if (tensor.proof == TensorProof::kBounded) {
      suite.Skip(tensor.name, fmt::format("bounded, not proven: encoder {}", Q4EncoderName(tensor.encoder)));
    } else if (tensor.compared || tensor.compared_elems != 0) {
      suite.Pass(tensor.name);
    } else {
      suite.Skip(tensor.name, "not compared with the source");
    }
  }
  // The rest are tensors that the container lacks.
  for (const auto& [tensor, failure] : failures) suite.Fail(tensor, failure);
  return suite;
}

// That there is one, and of what; its limits are gates. An evaluation of another container is an error, and no report.
Suite EvaluationSuite(const Evaluation& evaluation) {
  Suite suite("evaluation");
  suite.Pass("the evaluation is of this container");
  const std::string_view original = "the original is what the container was made from";
  if (evaluation.original_is_source == true) {
    suite.Pass(original);
  } else {
    suite.Skip(original, EvaluatedAgainstText(evaluation));
  }
  return suite;
}

// A case for each verdict; its name has the rule and the subject. The remaining failures are about rules, not verdicts:
// a rule that matched nothing, a statistic that was not recorded.
Suite GateSuite(const VerifyReport& report, const Failures& failures) {
  Suite suite("gates");
  for (const GateVerdict& verdict : report.gates) {
    const std::string test = GateRuleText(verdict) + ", " + GateSubject(verdict);
    if (verdict.passed) {
      suite.Pass(test);
    } else {
      suite.Fail(test, {{verdict.gate,
                         fmt::format("{}: got {}, expected {} {}", Printable(GateSubject(verdict), kXmlNameBytes),
                                     verdict.value, verdict.is_maximum ? "at most" : "at least", verdict.limit)}});
    }
  }
  for (const auto& [tensor, failure] : failures) suite.Fail(tensor.empty() ? "model" : tensor, failure);
  return suite;
}

}  // namespace

std::string VerifyReportJunit(const VerifyReport& report) {
  Failures integrity, comparison, gates, unlisted;
  for (const VerifyFinding* finding : ProblemsBesideGates(report)) {
    const FindingKind kind = KindOf(*finding);
    Failures& failures = kind == FindingKind::kGate ? gates : kind == FindingKind::kComparison ? comparison : integrity;
    failures[finding->tensor].push_back({IssueName(finding->issue), finding->message});
  }
  // A failed tensor none of whose problems is among the listed ones must not look sound.
  std::map<std::string, bool, std::less<>> explained;
  for (const VerifyFinding& finding : report.findings) explained[finding.tensor] = true;
  for (const GateVerdict* verdict : BrokenGates(report)) explained[verdict->subject] = true;
  for (const VerifyTensor& tensor : report.tensors) {
    if (!tensor.passed && !explained.contains(tensor.name)) {
      unlisted[tensor.name].push_back(
          {"unlisted", fmt::format("failed; only the first {} problems are listed", kMaxFindings)});
    }
  }

  // A suite that could have no case is left out: without a source there is nothing to compare, and an empty suite reads
  // like one in which everything passed.
  std::vector<Suite> suites{CheckSuite(report), IntegritySuite(report, integrity, unlisted)};
  if (!report.source.empty()) suites.push_back(ComparisonSuite(report, std::move(comparison)));
  if (report.evaluation) suites.push_back(EvaluationSuite(*report.evaluation));
  if (!report.gates.empty() || !gates.empty()) suites.push_back(GateSuite(report, gates));

  std::uint64_t tests = 0, failed = 0, skipped = 0;
  std::string text;
  // Totals in the outer tag are sums over the suites, which some viewers check.
  for (const Suite& suite : suites) {
    tests += suite.tests();
    failed += suite.failed();
    skipped += suite.skipped();
    text += suite.Text();
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuites name=\"q4verify {} sha256:{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" "
      "skipped=\"{}\">\n{}</testsuites>\n",
      Xml(report.path, kXmlMessageBytes), HexOf(report.root), tests, failed, skipped, text);
}

}  // namespace q4
