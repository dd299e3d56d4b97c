// The blocks that lost most, by their sum of squares. A tensor with a large NMSE loses much everywhere, and the table
// of tensors tells which; a block with a large sum has an outlier, which made its scale too coarse for all other
// elements, or an error that a reader should look at.
#include <algorithm>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/html/terms.h"
#include "libconvert/report/summary.h"

namespace q4::html {
namespace {

constexpr std::size_t kBlocksShown = 10;
constexpr std::size_t kElementsShown = 2;  // of each block; an opened row of the table of tensors has all

// "0.1234 → 0.1198 at [3, 77]" for each listed element.
std::string WorstElements(const RankedBlock& block) {
  // The container records which block is the worst, not what was in it: that takes the source.
  if (block.values == nullptr) return "<span class=\"note\">known with --against</span>";
  std::string text = "<ul class=\"plain\">";
  // Farthest off first, so the first ones tell most.
  const std::vector<WorstElement>& elements = block.values->elements;
  for (std::size_t i = 0; i < std::min(elements.size(), kElementsShown); ++i) {
    const WorstElement& element = elements[i];
    text += fmt::format("<li>{:.6g} → {:.6g} <span class=\"note whole\">at {}</span>", element.source, element.decoded,
                        ElementPosition(block.tensor->shape, element.index));
  }
  return text + "</ul>";
}

}  // namespace

// Over all tensors: one bad tensor may fill the list, and then that is the news.
std::string BlocksSection(const VerifyReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const RankedBlock& block : RankedBlocks(report, kBlocksShown)) {
    rows.push_back(
        {TensorLink(report, block.tensor->name), Grouped(block.block),
         ElementPosition(block.tensor->shape, block.block * block.tensor->block_size), ShortText(block.sum_e2),
         block.values == nullptr ? "" : ShortText(static_cast<double>(block.values->scale)), WorstElements(block)});
  }
  if (rows.empty()) return {};
  using enum TableColumn::Kind;
  return Section("blocks", "Worst blocks",
                 "Those with the largest sums of squared errors, and their farthest elements.",
                 Terms({"block", "Σe²", "scale"}) + CardTable("Worst blocks",
                                                              {{"tensor"},
                                                               {"block", kNumber},
                                                               {"starts at", kNumber},
                                                               {"Σe²", kNumber},
                                                               {"scale", kNumber},
                                                               {"source → decoded", kWide}},
                                                              rows));
}

}  // namespace q4::html
