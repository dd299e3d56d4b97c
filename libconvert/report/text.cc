// For someone who reads a terminal: the verdict first, then what was looked at, then the worst roles and tensors.
// Findings are not repeated here; the tool prints them on stderr.
//
// Sections without content are left out, so the summary of a small container is a few lines. Figures are rounded to
// what can be read at a glance; the JSON report has all digits.
#include "libconvert/report/text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/summary.h"

namespace q4 {

namespace {

// "" when neither is stated.
std::string ModelField(const std::string& architecture, const std::string& model_type) {
  if (architecture.empty() && model_type.empty()) return {};
  return Field("model", Printable(architecture) + (model_type.empty() ? "" : " (" + Printable(model_type) + ")"));
}

// Together with the summary both tables fit a terminal of 40 lines. A Llama-like model has 7 quantized roles, and one
// with experts about 10, so that all are shown as a rule.
constexpr std::size_t kShownRoles = 12;
constexpr std::size_t kShownTensors = 5;

// The rows of a table of error statistics, worst NMSE first; ties stay in the order given.
template <typename T>
void KeepWorst(std::size_t most, const Q4Stats& (*stats)(const T*), std::vector<const T*>* rows) {
  std::stable_sort(rows->begin(), rows->end(),
                   [stats](const T* a, const T* b) { return Derive(stats(a)).nmse > Derive(stats(b)).nmse; });
  if (rows->size() > most) rows->resize(most);
}

// The bias is shown with three digits only: what matters is its size beside the largest error.
std::vector<std::string> ErrorCells(const Q4Stats& stats) {
  const DerivedStats derived = Derive(stats);
  return {fmt::format("{:.3f}", derived.sqnr_db), fmt::format("{:.4g}", derived.nmse),
          fmt::format("{:.3g}", derived.bias), fmt::format("{:.4g}", stats.max_abs_err)};
}

// The headings over ErrorCells(), what follows them, and before that "absmax" where errors were measured beside its.
std::vector<std::string> Headings(const VerifyReport& report, std::vector<std::string> others) {
  std::vector<std::string> headings = {"SQNR dB", "NMSE", "?1bias", "?3max |e|"};
  if (report.absmax.tensors != 0) headings.emplace_back("of absmax");
  headings.insert(headings.end(), others.begin(), others.end());
  return headings;
}

std::vector<std::string> Cells(const VerifyReport& report, const Q4Stats& stats, const AbsmaxComparison& absmax) {
  std::vector<std::string> cells = ErrorCells(stats);
  if (report.absmax.tensors != 0) cells.push_back(RatioText(absmax));
  return cells;
}

// Names of roles are parts of tensor names and go through Printable() as these do.
std::string RoleTable(const VerifyReport& report, const TextStyle& style) {
  std::vector<const VerifyGroup*> roles;
  for (const VerifyGroup& group : report.groups) {
    if (group.kind == VerifyGroup::Kind::kRole) roles.push_back(&group);
  }
  if (roles.empty()) return {};
  const std::size_t all = roles.size();
  KeepWorst<VerifyGroup>(
      kShownRoles, [](const VerifyGroup* group) -> const Q4Stats& { return group->stats.total; }, &roles);
  Table table(Headings(report, {"?2tensors", all == roles.size() ? "<role" : "<role (the worst)"}));
  for (const VerifyGroup* role : roles) {
    std::vector<std::string> cells = Cells(report, role->stats.total, role->absmax);
    cells.push_back(Grouped(role->stats.tensors));
    cells.push_back(Printable(role->name));
    table.Add(std::move(cells));
  }
  return "\n" + table.Text(style);
}

// Kept tensors have no error, and those whose statistics nobody recorded cannot be ranked; both stay out.
std::string WorstTensorTable(const VerifyReport& report, const TextStyle& style) {
  std::vector<const VerifyTensor*> tensors;
  for (const VerifyTensor& tensor : report.tensors) {
    if (tensor.quantized() && tensor.has_stats) tensors.push_back(&tensor);
  }
  if (tensors.empty()) return {};
  KeepWorst<VerifyTensor>(
      kShownTensors, [](const VerifyTensor* tensor) -> const Q4Stats& { return tensor->stats; }, &tensors);
  Table table(Headings(report, {"?2clipped", "<worst tensors"}));
  for (const VerifyTensor* tensor : tensors) {
    std::vector<std::string> cells = Cells(report, tensor->stats, tensor->absmax);
    cells.push_back(Grouped(tensor->stats.clipped));
    cells.push_back(Printable(tensor->name));
    table.Add(std::move(cells));
  }
  return "\n" + table.Text(style);
}

// What the model computes, by q4.evaluate.
std::string EvaluationTable(const VerifyReport& report, const TextStyle& style) {
  if (!report.evaluation) return {};
  constexpr std::size_t kShownLayers = 5;
  const Evaluation& evaluation = *report.evaluation;
  Table table({"value", "<evaluation"});
  for (const auto& [number, value] : evaluation.numbers) {
    table.Add({EvaluationNumberText(value), std::string(number->what) + " (" + std::string(number->name) + ")"});
  }
  std::string text = "\n" + table.Text(style);
  if (evaluation.layers.empty()) return text;
  Table layers({"error", "<layers whose outputs are farthest off"});
  for (const EvaluatedLayer* layer : evaluation.WorstLayers(kShownLayers)) {
    layers.Add({EvaluationNumberText(layer->error), Printable(layer->name)});
  }
  return text + "\n" + layers.Text(style);
}

}  // namespace

// Also used by q4convert for its gates, whose findings are of the same kind.
std::vector<std::string> FindingLines(const std::vector<VerifyFinding>& findings, std::uint64_t finding_count,
                                      bool all) {
  std::vector<std::string> lines;
  for (const VerifyFinding& finding : findings) {
    if (!all && lines.size() == kShownFindings) break;
    lines.push_back(finding.message);
  }
  if (finding_count > lines.size()) lines.push_back("and " + Counted(finding_count - lines.size(), "more problem"));
  return lines;
}

std::string VerifyReportText(const VerifyReport& report, const TextStyle& style) {
  const auto line = [&style](std::string_view name, const std::string& value) { return Field(name, value, style); };
  // A tensor of which a sample was compared counts as compared; the line "against" then tells the size of the sample.
  std::uint64_t quantized = 0, compared = 0, failed = 0;
  for (const VerifyTensor& tensor : report.tensors) {
    quantized += tensor.quantized();
    compared += tensor.compared || tensor.compared_elems != 0;
    failed += !tensor.passed;
  }
  std::string text = fmt::format("{}: {}\n", Printable(report.path, 4096), report.passed() ? "passed" : "FAILED");
  text += ModelField(report.architecture, report.model_type);
  text += line("integrity", fmt::format("{} in {} chunks, {}", HumanBytes(report.file_bytes), Grouped(report.chunks),
                                        ShardsText(report.shards, report.shard_count)));
  text += line("seal", "sha256:" + HexOf(report.root));
  text += line("tensors", fmt::format("{}, {} of them quantized", Grouped(report.tensors.size()), Grouped(quantized)));
  // What the verdict rests on: "passed" without this line says nothing about the source.
  if (!report.source.empty()) {
    std::string against = fmt::format("{}: {}, {}", Printable(report.source, 4096), Counted(compared, "tensor"),
                                      HumanBytes(report.source_bytes));
    if (!report.only.empty()) against += fmt::format(", only '{}'", Printable(report.only));
    if (report.sample_percent < 100) against += ", " + SampleText(report);
    text += line("against", against);
  }
  std::string checked;
  for (const CheckMade& check : ChecksMade(report)) {
    if (check.extent == CheckMade::Extent::kNone) continue;
    checked += (checked.empty() ? "" : ", ") + std::string(check.name);
    if (check.extent == CheckMade::Extent::kPart) checked += " (in part)";
  }
  text += line("checked", checked);
  for (const CheckMade& check : ChecksMade(report)) {
    const bool is_none = check.extent == CheckMade::Extent::kNone;
    if (is_none) text += line("not checked", fmt::format("{}: {}", check.name, check.detail));
    // A part, and what is bounded in a whole.
    if (!is_none && check.name == "comparison") text += line("comparison", check.detail);
  }
  std::size_t missed = 0;
  std::string names;
  for (const LeftOutFile& file : report.left_out) {
    if (!file.warning) continue;
    constexpr std::size_t kShownNames = 3;
    if (++missed <= kShownNames) names += (missed == 1 ? "" : ", ") + Printable(Shown{file.name});
  }
  if (missed != 0) {
    text += line("left out", fmt::format("{} that a loader may miss: {}{}", missed, names, missed > 3 ? ", ..." : ""));
  }
  // "as recorded": the container's own statistics, which say what the encoder lost when it ran. Only "recomputed" ones
  // prove that this is still so.
  if (report.model.tensors != 0) {
    text += line("error", ErrorSummary(report.model) + (report.stats_recomputed ? " (recomputed)" : " (as recorded)"));
  }
  if (report.compared_absmax) text += line("of absmax", AbsmaxText(report));
  if (report.evaluation) {
    text += line("evaluation", fmt::format("{}, '{}': {}", Printable(report.evaluation->path, 4096),
                                           Printable(report.evaluation->name), EvaluatedText(*report.evaluation)));
    text += line("original", Printable(EvaluatedAgainstText(*report.evaluation), 4096));
  }
  if (!report.baseline_encoders.empty()) text += line("encoders", BaselineEncodersText(report));
  if (!report.gates.empty()) {
    const auto broken =
        std::count_if(report.gates.begin(), report.gates.end(), [](const auto& g) { return !g.passed; });
    text += line("gates", fmt::format("{} held, {} broken",
                                      Counted(report.gates.size() - static_cast<std::size_t>(broken), "limit"),
                                      Grouped(static_cast<std::uint64_t>(broken))));
  }
  // Failed tensors are counted apart from findings, since one tensor may have several and some findings concern none.
  if (!report.passed()) {
    text += line("problems", fmt::format("{}, in {}", Grouped(report.finding_count), Counted(failed, "tensor")));
  }
  return text + RoleTable(report, style) + WorstTensorTable(report, style) + EvaluationTable(report, style);
}

}  // namespace q4
