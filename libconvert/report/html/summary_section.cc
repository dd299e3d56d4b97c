// What a reader wants to know without scrolling: passed or failed, by how much the model changed, and what was compared
// with what. The problems, which come next when there are any, are in this file as well.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "fmt/format.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// "dir/model.q4" -> "model.q4"
std::string_view FileName(std::string_view path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string_view::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

// A key figure: markup for the value and for the small print under it. A <dl> of such pairs reads well without the
// style.
std::string Tile(std::string_view label, std::string_view value, std::string_view note) {
  return fmt::format("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n", label, value, note);
}

// Over all tensors; elements and bytes only of quantized ones, since bits per weight of kept ones would hide the
// saving.
struct Counts {
  std::uint64_t quantized = 0, quantized_elems = 0, quantized_bytes = 0, compared = 0, failed = 0;
};

Counts CountTensors(const VerifyReport& report) {
  Counts counts;
  for (const VerifyTensor& tensor : report.tensors) {
    counts.compared += tensor.compared || tensor.compared_elems != 0;
    counts.failed += !tensor.passed;
    if (!tensor.quantized()) continue;
    ++counts.quantized;
    counts.quantized_elems += tensor.elems;
    counts.quantized_bytes += tensor.stored_bytes;
  }
  return counts;
}

std::string Verdict(const VerifyReport& report, const Counts& counts) {
  if (!report.passed()) {
    return fmt::format(
        "<p class=\"verdict failed\"><b><span aria-hidden=\"true\">✕</span> Failed</b> {} {} in {} {}</p>\n",
        Grouped(report.finding_count), report.finding_count == 1 ? "problem" : "problems", Grouped(counts.failed),
        counts.failed == 1 ? "tensor" : "tensors");
  }
  // A verdict must not promise more than was checked. Without a source only integrity was; with a sample or a selection
  // of tensors the source was seen in part.
  const std::vector<CheckMade> checks = ChecksMade(report);
  const bool all_made = std::all_of(checks.begin(), checks.end(),
                                    [](const CheckMade& c) { return c.extent == CheckMade::Extent::kWhole; });
  const bool all_proven = std::none_of(report.tensors.begin(), report.tensors.end(),
                                       [](const VerifyTensor& t) { return t.proof == TensorProof::kBounded; });
  const char* scope = report.source.empty()    ? "every byte is intact"
                      : all_made && all_proven ? "intact, and true to its source"
                                               : "what was checked holds";
  return fmt::format("<p class=\"verdict passed\"><b><span aria-hidden=\"true\">✓</span> Passed</b> {}</p>\n", scope);
}

// Recorded statistics are the writer's claim; the note says which of the two these are.
std::string ErrorTiles(const VerifyReport& report) {
  if (report.model.tensors == 0) return {};
  const DerivedStats derived = Derive(report.model.total);
  return Tile("SQNR", SqnrText(derived.sqnr_db) + " dB",
              report.stats_recomputed ? "recomputed from the source" : "as recorded") +
         Tile("NMSE", fmt::format("{:.6g}", derived.nmse), fmt::format("cosine {:.7f}", derived.cosine)) +
         Tile("Largest error", fmt::format("{:.6g}", report.model.total.max_abs_err),
              TensorLink(report, report.model.max_abs_err_tensor));
}

// Where it was asked for.
std::string AbsmaxTile(const VerifyReport& report) {
  if (!report.compared_absmax) return {};
  const std::string ratio = RatioText(report.absmax);
  return Tile("Error beside absmax", ratio.empty() ? "not measured" : ratio, Text(Shown{AbsmaxText(report)}));
}

// The tile stands there without a source as well, to say that nothing was compared.
std::string ComparisonTile(const VerifyReport& report, const Counts& counts) {
  if (report.source.empty()) return Tile("Compared", "no source", "integrity and recorded statistics");
  std::string note =
      report.sample_percent < 100 ? SampleText(report) : HumanBytes(report.source_bytes) + " of the source";
  if (!report.only.empty()) note += ", only " + Name(report.only);
  return Tile("Compared", fmt::format("{} of {}", Grouped(counts.compared), Grouped(report.tensors.size())), note);
}

// Verdicts, not rules, are counted; the tile leads to the table.
std::string GatesTile(const VerifyReport& report) {
  if (report.gates.empty()) return {};
  const std::uint64_t broken = BrokenGates(report).size();
  return Tile("Gates", fmt::format("{} of {}", Grouped(report.gates.size() - broken), Grouped(report.gates.size())),
              broken == 0 ? "<a href=\"#gates\">all hold</a>" : "<a href=\"#gates\">hold</a>");
}

// What the verdict rests on, check by check.
std::string Checks(const VerifyReport& report) {
  std::string rows;
  for (const CheckMade& check : ChecksMade(report)) {
    rows += fmt::format("<div><dt>{}</dt><dd>{}: {}</dd></div>\n", Text(check.name), ExtentName(check.extent),
                        Text(check.detail, kPathBytes));
  }
  return Section("checks", "What was checked", "", "<dl class=\"facts\">\n" + rows + "</dl>\n");
}

}  // namespace

std::string SummarySection(const VerifyReport& report) {
  const Counts counts = CountTensors(report);
  std::string model = Text(report.architecture);
  if (!report.model_type.empty()) model += (model.empty() ? "" : ", ") + Text(report.model_type);
  std::string text = "<header>\n<p class=\"eyebrow\">q4verify report</p>\n";
  // The file's name alone is the title; the whole path is in the section on provenance.
  text += fmt::format("<h1>{}</h1>\n", Name(FileName(report.path), kPathBytes));
  if (!model.empty()) text += fmt::format("<p class=\"model\">{}</p>\n", model);
  text += Verdict(report, counts);
  text += "</header>\n<dl class=\"tiles\">\n" + ErrorTiles(report);
  text += Tile("Size", HumanBytes(report.file_bytes), ShardsText(report.shards, report.shard_count));
  text += Tile("Bits per weight", BitsPer(counts.quantized_bytes, counts.quantized_elems), "of quantized tensors");
  text += Tile("Tensors", Grouped(report.tensors.size()), Grouped(counts.quantized) + " quantized");
  text += ComparisonTile(report, counts) + AbsmaxTile(report) + GatesTile(report);
  return text + "</dl>\n" + Checks(report);
}

std::string ProblemsSection(const VerifyReport& report) {
  const std::vector<const VerifyFinding*> problems = ProblemsBesideGates(report);
  const std::uint64_t unlisted = UnlistedFindings(report);
  // Findings that only repeat a broken gate may be the only ones: then the gates tell all.
  if (problems.empty() && unlisted == 0) return {};
  std::string list;
  for (const VerifyFinding* finding : problems) {
    // Messages contain file names and tensor names, escaped for a terminal but not for HTML.
    list += fmt::format("<li><code>{}</code>", Text(Shown{finding->message}, kPathBytes));
    if (!finding->tensor.empty()) list += fmt::format("<br>{}", TensorLink(report, finding->tensor));
    list += "</li>\n";
  }
  if (unlisted != 0) list += fmt::format("<li>and {} more</li>\n", Grouped(unlisted));
  return Section("problems", "Problems", "", "<ul class=\"problems\">\n" + list + "</ul>\n");
}

}  // namespace q4::html
