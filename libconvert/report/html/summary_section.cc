// What a reader wants to know without scrolling: what the model is, what was saved, whether it may be deployed, and by
// how much it changed. What the verdict rests on is in this file as well.
#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/format.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/html/terms.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// "dir/model.q4" -> "model.q4"
std::string_view FileName(std::string_view path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string_view::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

// A key figure: markup for its label, for the value and for the small print under it.
struct Tile {
  std::string label, value, note;
};

// A <dl> of such pairs reads well without the style. Columns are as many as leave no hole in the last row, or the
// smallest one, over which page.css spreads that row.
std::string TileList(const std::vector<Tile>& tiles) {
  std::size_t columns = tiles.size(), hole = tiles.size() <= 5 ? 0 : tiles.size();
  for (const std::size_t tried : {4, 5, 3}) {
    const std::size_t left = (tried - tiles.size() % tried) % tried;
    if (left < hole) columns = tried, hole = left;
  }
  std::string text = fmt::format("<dl class=\"tiles c{}\">\n", columns);
  for (const Tile& tile : tiles) {
    text += fmt::format("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n", tile.label, tile.value, tile.note);
  }
  return text + "</dl>\n";
}

// Over all tensors. Source bytes are those of the tensors' own dtypes, so that a container of weights that had 4 bits
// before tells what 4 bits save as well.
struct Counts {
  std::uint64_t quantized = 0, quantized_elems = 0, quantized_bytes = 0, compared = 0, failed = 0;
  std::uint64_t parameters = 0, source_bytes = 0;
};

Counts CountTensors(const VerifyReport& report) {
  Counts counts;
  for (const VerifyTensor& tensor : report.tensors) {
    counts.compared += tensor.compared || tensor.compared_elems != 0;
    counts.failed += !tensor.passed;
    counts.source_bytes += tensor.elems * ItemSize(tensor.dtype);
    if (IsQuantizable(tensor.dtype)) counts.parameters += tensor.elems;  // positions and masks are none
    if (!tensor.quantized()) continue;
    ++counts.quantized;
    counts.quantized_elems += tensor.elems;
    counts.quantized_bytes += tensor.stored_bytes;
  }
  return counts;
}

// "7,241,732,096" says less than "7.24 billion".
std::string ParametersText(std::uint64_t parameters) {
  const double count = static_cast<double>(parameters);
  if (count >= 1e9) return fmt::format("{:.3g} billion parameters", count / 1e9);
  if (count >= 1e6) return fmt::format("{:.3g} million parameters", count / 1e6);
  return Counted(parameters, "parameter");
}

std::string TensorsText(std::uint64_t count) { return Counted(count, "tensor"); }

// "NF4, blocks of 64, double quantization, encoder mse"
std::string LongTreatment(const VerifyTensor& tensor) {
  const std::string_view type = Q4SchemeName(tensor.scheme);
  std::string text = absl::AsciiStrToUpper(absl::string_view(type.data(), type.size()));
  text += fmt::format(", blocks of {}{}", tensor.block_size, tensor.nested ? ", double quantization" : "");
  if (tensor.encoder != Q4Encoder::kNone) text += fmt::format(", encoder {}", Q4EncoderName(tensor.encoder));
  return text;
}

// What the most weights got, in words; of the rest, how many tensors.
std::string SettingsText(const VerifyReport& report, const Counts& counts) {
  struct Use {
    const VerifyTensor* first = nullptr;
    std::uint64_t tensors = 0, elems = 0;
  };
  std::map<std::string, Use> uses;
  for (const VerifyTensor& tensor : report.tensors) {
    if (!tensor.quantized()) continue;
    Use& use = uses[TreatmentOf(tensor)];
    if (use.first == nullptr) use.first = &tensor;
    ++use.tensors;
    use.elems += tensor.elems;
  }
  if (uses.empty()) return "nothing is quantized";
  const auto most = std::max_element(uses.begin(), uses.end(),
                                     [](const auto& a, const auto& b) { return a.second.elems < b.second.elems; });
  std::string text =
      fmt::format("<b>{}</b> in {}", LongTreatment(*most->second.first), TensorsText(most->second.tensors));
  const std::size_t others = uses.size() - 1;
  if (others != 0) {
    text +=
        fmt::format(", {} in {}", Counted(others, "other treatment"), Grouped(counts.quantized - most->second.tensors));
  }
  const std::uint64_t kept = report.tensors.size() - counts.quantized;
  return kept == 0 ? text : text + fmt::format(", {} kept", Grouped(kept));
}

// How much smaller the file is than its tensors' own dtypes. Companions are in the file and not in the comparison, so a
// small model may have grown.
std::string SavedText(const VerifyReport& report, const Counts& counts) {
  if (counts.source_bytes == 0 || report.file_bytes >= counts.source_bytes) return "nothing saved";
  return fmt::format("{:.1f} % saved",
                     100 * (1 - static_cast<double>(report.file_bytes) / static_cast<double>(counts.source_bytes)));
}

std::string VerdictMarkup(std::string_view style, std::string_view sign, std::string_view verdict,
                          std::string_view why) {
  return fmt::format("<p class=\"verdict {}\"><b><span aria-hidden=\"true\">{}</span> {}</b> {}</p>\n", style, sign,
                     verdict, why);
}

std::string FailedVerdict(const VerifyReport& report, const Counts& counts) {
  const std::uint64_t broken = BrokenGates(report).size();
  // Each broken gate is one finding; only the listing of findings is cut.
  const std::uint64_t problems = std::max<std::uint64_t>(report.finding_count - std::min(broken, report.finding_count),
                                                         ProblemsBesideGates(report).size());
  std::string why = "<a href=\"#problems\">";
  if (problems != 0) why += Counted(problems, "problem");
  if (broken != 0) {
    why += (problems == 0 ? "" : " and ") + Counted(broken, "broken gate");
  }
  why += "</a>";
  if (counts.failed != 0) why += fmt::format(" in {}", TensorsText(counts.failed));
  return VerdictMarkup("failed", "✕", "Failed: do not deploy", why);
}

// A verdict must not promise more than was checked: without a source only integrity was, with a sample or a selection
// of tensors the source was seen in part, and without a gate nobody said how much error is too much.
std::string Verdict(const VerifyReport& report, const Counts& counts) {
  if (!report.passed()) return FailedVerdict(report, counts);
  std::string lacking;
  const auto add = [&lacking](std::string_view what) {
    lacking += fmt::format("{}{}", lacking.empty() ? "" : ", ", what);
  };
  for (const CheckMade& check : ChecksMade(report)) {
    if (check.extent == CheckMade::Extent::kWhole) continue;
    add(fmt::format("{} {}", check.name, check.extent == CheckMade::Extent::kNone ? "not made" : "in part"));
  }
  const std::uint64_t bounded = static_cast<std::uint64_t>(
      std::count_if(report.tensors.begin(), report.tensors.end(),
                    [](const VerifyTensor& tensor) { return tensor.proof == TensorProof::kBounded; }));
  if (bounded != 0) add(TensorsText(bounded) + " bounded, not proven");
  if (report.gates.empty()) add("no gate set");
  if (!lacking.empty()) {
    const char* holds = report.source.empty() ? "Every byte is intact" : "What was checked holds";
    return VerdictMarkup("partly", "✓", "Passed, as far as it was checked",
                         fmt::format("{}; <a href=\"#checks\">{}</a>", holds, lacking));
  }
  const std::string gates =
      report.gates.size() == 1 ? "the gate holds" : fmt::format("all {} gates hold", Grouped(report.gates.size()));
  return VerdictMarkup("passed", "✓", "Passed: may be deployed", "Intact, true to its source, and " + gates);
}

// Recorded statistics are the writer's claim; the note says which of the two these are.
void AddErrors(const VerifyReport& report, std::vector<Tile>* tiles) {
  if (report.model.tensors == 0) return;
  const DerivedStats derived = Derive(report.model.total);
  tiles->push_back({Term("SQNR"), SqnrText(derived.sqnr_db) + " dB",
                    report.stats_recomputed ? "recomputed from the source" : "as recorded"});
  tiles->push_back({Term("NMSE"), ShortText(derived.nmse), fmt::format("cosine {:.5f}", derived.cosine)});
  tiles->push_back({Term("Largest error"), ShortText(report.model.total.max_abs_err),
                    TensorLink(report, report.model.max_abs_err_tensor)});
}

// Where it was asked for.
void AddAbsmax(const VerifyReport& report, std::vector<Tile>* tiles) {
  if (!report.compared_absmax) return;
  const std::string ratio = RatioText(report.absmax);
  tiles->push_back(
      {Term("Error beside absmax"), ratio.empty() ? "not measured" : ratio, Text(Shown{AbsmaxText(report)})});
}

// The tile stands there without a source as well, to say that nothing was compared.
void AddComparison(const VerifyReport& report, const Counts& counts, std::vector<Tile>* tiles) {
  if (report.source.empty()) {
    tiles->push_back({"Compared", "no source", "integrity and recorded statistics"});
    return;
  }
  std::string note =
      report.sample_percent < 100 ? SampleText(report) : HumanBytes(report.source_bytes) + " of the source";
  if (!report.only.empty()) note += ", only " + Name(report.only);
  tiles->push_back(
      {"Compared", fmt::format("{} of {}", Grouped(counts.compared), Grouped(report.tensors.size())), note});
}

void AddGates(const VerifyReport& report, std::vector<Tile>* tiles) {
  if (report.gates.empty()) return;
  const std::uint64_t broken = BrokenGates(report).size();
  if (broken == 0) {
    tiles->push_back({"Gates", Grouped(report.gates.size()) + (report.gates.size() == 1 ? " holds" : " hold"),
                      "<a href=\"#gates\">none broken</a>"});
    return;
  }
  tiles->push_back({"Gates", fmt::format("<span class=\"failed\">{} broken</span>", Grouped(broken)),
                    fmt::format("<a href=\"#problems\">of {}</a>", Grouped(report.gates.size()))});
}

}  // namespace

std::string ShortSeal(const VerifyReport& report) { return HexOf(report.root).substr(0, 12); }

std::string SummarySection(const VerifyReport& report) {
  const Counts counts = CountTensors(report);
  std::string model = Text(report.architecture);
  if (!report.model_type.empty()) model += (model.empty() ? "" : ", ") + Text(report.model_type);
  model += (model.empty() ? "" : ", ") + ParametersText(counts.parameters);
  if (!report.source.empty()) model += ", compared with " + Name(FileName(report.source), kPathBytes);
  std::string text = "<header>\n<p class=\"eyebrow\">q4verify report</p>\n";
  // The file's name alone is the title; the whole path is in the section on provenance.
  text += fmt::format("<h1>{}</h1>\n<p class=\"model\">{}</p>\n", Name(FileName(report.path), kPathBytes), model);
  text += fmt::format("<p class=\"saved\"><b>{} → {}</b>, {}. {}.</p>\n", HumanBytes(counts.source_bytes),
                      HumanBytes(report.file_bytes), SavedText(report, counts), SettingsText(report, counts));
  text += Verdict(report, counts);
  text += fmt::format("<div class=\"seal\">{} <code>{}…</code></div>\n</header>\n", Term("seal"), ShortSeal(report));
  std::vector<Tile> tiles;
  AddErrors(report, &tiles);
  tiles.push_back({"Size", HumanBytes(report.file_bytes),
                   fmt::format("{} unquantized; {}", HumanBytes(counts.source_bytes),
                               ShardsText(report.shards, report.shard_count))});
  tiles.push_back({Term("Bits per weight"), BitsPer(report.file_bytes, counts.parameters),
                   BitsPer(counts.quantized_bytes, counts.quantized_elems) + " in quantized tensors"});
  tiles.push_back({"Tensors", Grouped(report.tensors.size()), Grouped(counts.quantized) + " quantized"});
  AddComparison(report, counts, &tiles);
  AddAbsmax(report, &tiles);
  AddGates(report, &tiles);
  return text + TileList(tiles);
}

std::string ChecksSection(const VerifyReport& report) {
  std::string rows;
  for (const CheckMade& check : ChecksMade(report)) {
    rows += fmt::format("<div><dt>{}</dt><dd>{}: {}</dd></div>\n", Text(check.name), ExtentName(check.extent),
                        Text(check.detail, kPathBytes));
  }
  return Section("checks", "What was checked", "", "<dl class=\"facts\">\n" + rows + "</dl>\n");
}

}  // namespace q4::html
