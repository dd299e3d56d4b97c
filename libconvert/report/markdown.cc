// A comment on a pull request is cut off or refused when it is too long, so the length is bounded by construction. Each
// section has a budget in bytes and drops whole rows when it is used up. Budgets together are 59,000 bytes: that of the
// gates counts twice. The summary, about ten short rows, has what is left of kMarkdownBytes.
//
// Sections are functions from the report to text, "" when there is nothing to show, in the order in which a reviewer
// needs them.
#include "libconvert/report/markdown.h"

#include <string_view>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/format.h"
#include "libconvert/report/summary.h"

namespace q4 {
namespace {

// Enough for the names of real tensors, and for a message with its names; a longer one ends in "...".
constexpr std::size_t kNameBytes = 120;
constexpr std::size_t kMessageBytes = 300;
constexpr std::size_t kGatesBudget = 12'000;  // of the rules, and of the broken ones
constexpr std::size_t kProblemsBudget = 14'000;
constexpr std::size_t kWorstBudget = 6'000;
constexpr std::size_t kRolesBudget = 6'000;
constexpr std::size_t kEvaluationBudget = 3'000;
constexpr std::size_t kProvenanceBudget = 6'000;
// More than ten tensors are a task for the HTML report.
constexpr std::size_t kWorstShown = 10;

// A code span. Inside it Markdown gives no character a meaning, but a backtick ends the span, and GitHub splits table
// rows at '|' before it looks for spans. Both are written as Printable() writes control characters, because a backslash
// escapes no backtick in a span. An empty span does not exist in Markdown, so an empty text becomes a space.
template <typename Text>
std::string Code(const Text& text, std::size_t max_bytes = kNameBytes) {
  std::string span = "`";
  for (const char c : Printable(text, max_bytes)) {
    if (c == '`' || c == '|') {
      span += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      span.push_back(c);
    }
  }
  if (span.size() == 1) span.push_back(' ');
  return span + "`";
}

// Rows up to a budget in bytes, the heading included, then how many were left out. After the first row that does not
// fit no shorter one is taken either: a list with holes would suggest an order of importance that it does not have.
class Rows {
 public:
  Rows(std::string heading, std::size_t budget) : text_(std::move(heading)), budget_(budget) {}
  void Add(const std::string& row) {
    if (left_out_ != 0 || text_.size() + row.size() + 1 > budget_) {
      ++left_out_;
    } else {
      text_ += row + "\n";
    }
  }
  // `more`: entries that were never offered.
  std::string Text(std::uint64_t more = 0) const {
    const std::uint64_t missing = left_out_ + more;
    return text_ + (missing == 0 ? "\n" : fmt::format("\nand {} more\n\n", Grouped(missing)));
  }

 private:
  std::string text_;
  std::size_t budget_;
  std::uint64_t left_out_ = 0;
};

// The verdict as a heading, since mail clients and notifications show the first line alone; then key figures as a table
// without headings.
std::string Summary(const VerifyReport& report) {
  // A tensor of which a sample was compared counts as compared; the row "sample" tells its size.
  std::uint64_t quantized = 0, compared = 0, failed = 0;
  for (const VerifyTensor& tensor : report.tensors) {
    quantized += tensor.quantized();
    compared += tensor.compared || tensor.compared_elems != 0;
    failed += !tensor.passed;
  }
  std::string text = fmt::format("## {} q4verify: {} {}\n\n", report.passed() ? "✅" : "❌",
                                 Code(report.path, kMessageBytes), report.passed() ? "passed" : "**failed**");
  if (!report.passed()) {
    text += fmt::format("{} in {}.\n\n", Counted(report.finding_count, "problem"), Counted(failed, "tensor"));
  }
  text += "| | |\n|---|---|\n";
  const auto row = [&text](const char* name, const std::string& value) {
    text += fmt::format("| {} | {} |\n", name, value);
  };
  if (!report.architecture.empty()) row("model", Code(report.architecture));
  row("size", fmt::format("{} in {}", HumanBytes(report.file_bytes), ShardsText(report.shards, report.shard_count)));
  row("tensors", fmt::format("{}, {} of them quantized", Grouped(report.tensors.size()), Grouped(quantized)));
  if (!report.source.empty()) {
    row("compared with", fmt::format("{}: {}", Code(report.source, kMessageBytes), Counted(compared, "tensor")));
    if (report.sample_percent < 100) row("sample", SampleText(report));
    if (!report.only.empty()) row("only", Code(report.only, kMessageBytes));
  }
  for (const CheckMade& check : ChecksMade(report)) {
    row(std::string(check.name).c_str(),
        fmt::format("{}: {}", ExtentName(check.extent), Code(check.detail, kMessageBytes)));
  }
  if (!report.baseline.empty()) row("baseline", Code(report.baseline, kMessageBytes));
  if (!report.baseline_encoders.empty()) row("encoders", Code(Shown{BaselineEncodersText(report)}, kMessageBytes));
  if (report.model.tensors != 0) {
    const DerivedStats derived = Derive(report.model.total);
    const char* origin = report.stats_recomputed ? "recomputed" : "as recorded";
    row("SQNR", fmt::format("**{:.3f} dB** ({})", derived.sqnr_db, origin));
    row("NMSE", fmt::format("{:.6g}", derived.nmse));
    row("largest error",
        fmt::format("{:.6g} in {}", report.model.total.max_abs_err, Code(report.model.max_abs_err_tensor)));
  }
  if (report.compared_absmax) row("beside absmax", Code(Shown{AbsmaxText(report)}, kMessageBytes));
  if (!report.gates.empty()) {
    row("gates", fmt::format("{} of {} hold", Grouped(report.gates.size() - BrokenGates(report).size()),
                             Grouped(report.gates.size())));
  }
  return text + "\n";
}

std::string SubjectText(const GateVerdict& verdict) {
  switch (verdict.scope) {
    case GateVerdict::Scope::kTensor:
      return Code(verdict.subject);
    case GateVerdict::Scope::kLayer:
      return "layer " + Code(verdict.subject);
    case GateVerdict::Scope::kRole:
      return "role " + Code(verdict.subject);
    case GateVerdict::Scope::kEvaluation:
      return "evaluation";
    case GateVerdict::Scope::kModel:
      break;
  }
  return "model";
}

// One by one, since a reviewer must see each subject that broke a limit; GateRules() has the overview.
std::string BrokenGatesTable(const VerifyReport& report) {
  const std::vector<const GateVerdict*> broken = BrokenGates(report);
  if (broken.empty()) return {};
  Rows rows("### Broken gates\n\n| gate | subject | statistic | value | limit |\n|---|---|---|---:|---:|\n",
            kGatesBudget);
  for (const GateVerdict* verdict : broken) {
    rows.Add(fmt::format("| {} | {} | {} | **{:.6g}** | {} {:.6g} |", Code(verdict->gate), SubjectText(*verdict),
                         Code(verdict->statistic), verdict->value, verdict->is_maximum ? "≤" : "≥", verdict->limit));
  }
  return rows.Text();
}

// Messages are whole error lines with file and place, so a list needs no columns. Findings that were never listed are
// added to those for which there was no room.
std::string Problems(const VerifyReport& report) {
  const std::vector<const VerifyFinding*> problems = ProblemsBesideGates(report);
  if (problems.empty()) return {};
  Rows rows("### Problems\n\n", kProblemsBudget);
  for (const VerifyFinding* finding : problems) rows.Add("- " + Code(Shown{finding->message}, kMessageBytes));
  return rows.Text(UnlistedFindings(report));
}

// A row for each rule, not for each verdict: one rule on a thousand tensors has a thousand verdicts. The subject
// nearest to its limit stands for all, because it tells how much room is left.
std::string GateRules(const VerifyReport& report) {
  if (report.gates.empty()) return {};
  Rows rows("### Gates\n\n| | gate | statistic | limit | subjects | closest |\n|---|---|---|---:|---:|---|\n",
            kGatesBudget);
  for (const GateSummary& summary : SummarizeGates(report)) {
    const GateVerdict& closest = *summary.closest;
    rows.Add(fmt::format(
        "| {} | {} | {} | {} | {} | {:.6g}: {} |", summary.broken == 0 ? "✅" : "❌", Code(closest.gate),
        Code(closest.statistic),
        summary.one_limit ? fmt::format("{} {:.6g}", closest.is_maximum ? "≤" : "≥", closest.limit) : "each its own",
        Grouped(summary.subjects), closest.value, SubjectText(closest)));
  }
  return rows.Text();
}

// The last column is there where errors were measured beside absmax'.
std::string StatisticsCells(const VerifyReport& report, const Q4Stats& stats, const AbsmaxComparison& absmax) {
  const DerivedStats derived = Derive(stats);
  std::string cells = fmt::format("{:.3f} | {:.4g} | {:.4g} | {:.7f}", derived.sqnr_db, derived.nmse, stats.max_abs_err,
                                  derived.cosine);
  if (report.absmax.tensors != 0) cells += " | " + RatioText(absmax);
  return cells;
}

// "### Roles", and the head of a table whose last columns are StatisticsCells().
std::string StatisticsHead(const VerifyReport& report, std::string_view title, std::string_view columns,
                           std::string_view marks) {
  const bool beside = report.absmax.tensors != 0;
  return fmt::format("### {}\n\n| {} | SQNR dB | NMSE | max \\|e\\| | cosine |{}\n|{}|---:|---:|---:|---:|{}\n", title,
                     columns, beside ? " of absmax |" : "", marks, beside ? "---:|" : "");
}

// The same tensors in the same order as in the HTML report, which shows a few more.
std::string WorstTable(const VerifyReport& report) {
  const std::vector<const VerifyTensor*> worst = WorstTensors(report, kWorstShown);
  if (worst.empty()) return {};
  Rows rows(StatisticsHead(report, "Worst tensors", "tensor | treatment", "---|---"), kWorstBudget);
  for (const VerifyTensor* tensor : worst) {
    rows.Add(fmt::format("| {} | {} | {} |", Code(tensor->name), TreatmentOf(*tensor),
                         StatisticsCells(report, tensor->stats, tensor->absmax)));
  }
  return rows.Text();
}

// Roles whose tensors have no statistics are left out: the row would be full of zeros that look like perfect quality.
std::string RolesTable(const VerifyReport& report) {
  Rows rows(StatisticsHead(report, "Roles", "role | tensors", "---|---:"), kRolesBudget);
  bool any = false;
  for (const VerifyGroup& group : report.groups) {
    if (group.kind != VerifyGroup::Kind::kRole || group.stats.tensors == 0) continue;
    any = true;
    rows.Add(fmt::format("| {} | {} | {} |", Code(group.name), Grouped(group.stats.tensors),
                         StatisticsCells(report, group.stats.total, group.absmax)));
  }
  return any ? rows.Text() : std::string();
}

// Fifteen numbers at most; the document and the HTML report have the layers.
std::string EvaluationSection(const VerifyReport& report) {
  if (!report.evaluation) return {};
  const Evaluation& evaluation = *report.evaluation;
  Rows rows(fmt::format("### Evaluation\n\n{}, against {}\n\n| number | value |\n|---|---:|\n",
                        EvaluatedText(evaluation), Code(EvaluatedAgainstText(evaluation), kMessageBytes)),
            kEvaluationBudget);
  for (const auto& [number, value] : evaluation.numbers) {
    rows.Add(fmt::format("| {} | {} |", number->what, EvaluationNumberText(value)));
  }
  for (const EvaluatedLayer* layer : evaluation.WorstLayers(3)) {
    rows.Add(fmt::format("| {} | {} |", Code(layer->name), EvaluationNumberText(layer->error)));
  }
  return rows.Text();
}

// Folded away: reviewers rarely need it, but it makes the comment sufficient to find the files again. If the record
// cannot be read, the seal, which was computed and not read, still stands.
std::string Provenance(const VerifyReport& report) {
  Rows rows("<details><summary>Provenance</summary>\n\n| | |\n|---|---|\n", kProvenanceBudget);
  rows.Add(fmt::format("| seal | `sha256:{}` |", HexOf(report.root)));
  const absl::StatusOr<ProvenanceView> view = ParseProvenance(report.provenance, report.path);
  if (view.ok()) {
    rows.Add(fmt::format("| made by | {}, arithmetic {} |", Code(view->tool()), Code(view->numerics)));
    const std::string options = ConversionOptions(*view);
    if (!options.empty()) rows.Add(fmt::format("| options | {} |", Code(options, kMessageBytes)));
    for (const auto& [role, records] : {std::pair("source", &view->sources), std::pair("adapter", &view->adapter),
                                        std::pair("calibration", &view->calibration)}) {
      for (const SourceFileRecord& file : *records) {
        rows.Add(fmt::format("| {} | {}, {}, {} |", role, Code(file.name), HumanBytes(file.size),
                             Code(file.digest_kind + ":" + file.digest)));
      }
    }
  }
  return rows.Text() + "</details>\n";
}

}  // namespace

std::string VerifyReportMarkdown(const VerifyReport& report) {
  return Summary(report) + BrokenGatesTable(report) + Problems(report) + GateRules(report) + EvaluationSection(report) +
         WorstTable(report) + RolesTable(report) + Provenance(report);
}

}  // namespace q4
