// Where the error is: tensors by NMSE, single blocks by their sum of squares, and what tensors of one role lose on
// average.
//
// The two lists ask different things. A tensor with a large NMSE loses much everywhere; a block with a large sum has an
// outlier, which made its scale too coarse for all other elements, or an error that a reader should look at.
#include <algorithm>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

// Short lists: the table of all tensors can be sorted by any of these columns.
constexpr std::size_t kTensorsShown = 12;
constexpr std::size_t kBlocksShown = 10;
constexpr std::size_t kElementsShown = 2;  // of each block; an opened row has all

// The cells under ErrorHeadings(), in the same order.
std::string ErrorCells(const VerifyReport& report, const Q4Stats& stats, const AbsmaxComparison& absmax) {
  const DerivedStats derived = Derive(stats);
  return NumberCell(SqnrText(derived.sqnr_db)) + NumberCell(ShortText(derived.nmse)) +
         NumberCell(ShortText(stats.max_abs_err)) + NumberCell(fmt::format("{:.4f}", stats.max_gap_ratio)) +
         NumberCell(Grouped(stats.clipped)) + NumberCell(fmt::format("{:.7f}", derived.cosine)) +
         (report.absmax.tensors == 0 ? "" : NumberCell(RatioText(absmax)));
}

std::string ErrorHeadings(const VerifyReport& report) {
  const std::string headings =
      "<th scope=\"col\" class=\"n\">SQNR dB<th scope=\"col\" class=\"n\">NMSE<th scope=\"col\" class=\"n\">max |e|"
      "<th scope=\"col\" class=\"n\">half steps<th scope=\"col\" class=\"n\">clipped"
      "<th scope=\"col\" class=\"n\">cosine";
  return report.absmax.tensors == 0 ? headings : headings + "<th scope=\"col\" class=\"n\">of absmax";
}

std::string TensorRows(const VerifyReport& report) {
  std::string rows;
  // Tensors with statistics alone; if there is none, the section is left out, blocks included.
  for (const VerifyTensor* tensor : WorstTensors(report, kTensorsShown)) {
    rows += "<tr>" + TextCell(TensorLink(report, tensor->name)) + ErrorCells(report, tensor->stats, tensor->absmax) +
            "</tr>\n";
  }
  return rows;
}

// "0.1234 → 0.1198 at [3, 77]" for each listed element.
std::string Elements(const RankedBlock& block) {
  // The container records which block is the worst, not what was in it: that takes the source.
  if (block.values == nullptr) return "<span class=\"note\">known with --against</span>";
  std::string text = "<ul class=\"plain\">";
  // Farthest off first, so the first ones tell most.
  const std::vector<WorstElement>& elements = block.values->elements;
  for (std::size_t i = 0; i < std::min(elements.size(), kElementsShown); ++i) {
    const WorstElement& element = elements[i];
    text += fmt::format("<li>{:.6g} → {:.6g} <span class=\"note\">at {}</span>", element.source, element.decoded,
                        ElementPosition(block.tensor->shape, element.index));
  }
  return text + "</ul>";
}

// Over all tensors: one bad tensor may fill the list, and then that is the news.
std::string BlockRows(const VerifyReport& report) {
  std::string rows;
  for (const RankedBlock& block : RankedBlocks(report, kBlocksShown)) {
    rows += "<tr>" + TextCell(TensorLink(report, block.tensor->name)) + NumberCell(Grouped(block.block)) +
            NumberCell(ElementPosition(block.tensor->shape, block.block * block.tensor->block_size)) +
            NumberCell(ShortText(block.sum_e2)) +
            NumberCell(block.values == nullptr ? "" : ShortText(static_cast<double>(block.values->scale))) +
            TextCell(Elements(block)) + "</tr>\n";
  }
  return rows;
}

}  // namespace

std::string WorstSection(const VerifyReport& report) {
  const std::string tensors = TensorRows(report);
  if (tensors.empty()) return {};
  return Section(
      "worst", "Worst tensors and blocks", "",
      ScrollTable("Tensors with the largest NMSE", std::string("<th scope=\"col\">tensor") + ErrorHeadings(report),
                  tensors) +
          "<h3>Blocks with the largest sum of squared errors</h3>\n" +
          ScrollTable("Worst blocks",
                      "<th scope=\"col\">tensor<th scope=\"col\" class=\"n\">block<th scope=\"col\" class=\"n\">"
                      "starts at<th scope=\"col\" class=\"n\">Σe²<th scope=\"col\" class=\"n\">scale<th "
                      "scope=\"col\">source → decoded",
                      BlockRows(report)));
}

// Roles of kept tensors only have no statistics and are left out.
std::string RolesSection(const VerifyReport& report) {
  std::string rows;
  for (const VerifyGroup& group : report.groups) {
    if (group.kind != VerifyGroup::Kind::kRole || group.stats.tensors == 0) continue;
    rows += "<tr>" + TextCell(Name(group.name)) + NumberCell(Grouped(group.stats.tensors)) +
            ErrorCells(report, group.stats.total, group.absmax) + "</tr>\n";
  }
  if (rows.empty()) return {};
  return Section(
      "roles", "Roles", "What tensors do in their layer, all layers together.",
      ScrollTable("Error by role",
                  std::string("<th scope=\"col\">role<th scope=\"col\" class=\"n\">tensors") + ErrorHeadings(report),
                  rows));
}

}  // namespace q4::html
