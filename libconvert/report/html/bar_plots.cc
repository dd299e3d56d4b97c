// Bars as inline SVG: the code histogram of each code book and the spread of the scales. page.js draws the same plots
// for single tensors; both use the classes of page.css.
//
// SVG is written by hand rather than drawn on a canvas, so that it shows without JavaScript, prints sharply and can be
// read by a screen reader: every bar has a <title> with its exact figures.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "kernels/kernels.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/format.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/scheme.h"

namespace q4::html {
namespace {

// In units of the drawing; page.css scales it to the width of the page.
constexpr double kBarsWidth = 720, kBarsHeight = 220;
constexpr double kBarsTop = 24, kBarsBottom = 40;  // room for the shares above and the labels below the bars
constexpr std::size_t kMostBars = 64;              // enough for every exponent of real scales

struct Bar {
  std::string label;  // below the bar
  std::string title;  // shown by a pointing device, read by a screen reader
  std::uint64_t count = 0;
};

std::string BarPlot(std::string_view title, std::string_view axis, const std::vector<Bar>& bars) {
  // `most` begins at 1, so that bars without any count divide by something.
  std::uint64_t total = 0, most = 1;
  for (const Bar& bar : bars) {
    total += bar.count;
    most = std::max(most, bar.count);
  }
  const double pitch = kBarsWidth / static_cast<double>(bars.size());
  const double room = kBarsHeight - kBarsTop - kBarsBottom;
  // At most 20 labels fit side by side. Shares above the bars are left out as soon as some labels are.
  const std::size_t label_every = bars.size() / 20 + 1;
  std::string svg = fmt::format("<svg class=\"bars\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                                kBarsWidth, kBarsHeight, title);
  for (std::size_t i = 0; i < bars.size(); ++i) {
    // Heights are relative to the longest bar, so that a flat distribution does not end up as a row of dots.
    const double height = room * static_cast<double>(bars[i].count) / static_cast<double>(most);
    const double middle = pitch * (static_cast<double>(i) + 0.5);
    svg += fmt::format("<g><title>{}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
                       bars[i].title, middle - 0.38 * pitch, kBarsTop + room - height, 0.76 * pitch, height);
    if (i % label_every == 0) {
      // On a telephone every second one is left out, so that the others can be larger.
      svg +=
          fmt::format("<text{} x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", i / label_every % 2 == 0 ? "" : " class=\"minor\"",
                      middle, kBarsHeight - kBarsBottom + 14, bars[i].label);
    }
    if (label_every == 1 && total != 0) {
      svg += fmt::format("<text class=\"share\" x=\"{:.1f}\" y=\"{:.1f}\">{:.1f}%</text>", middle,
                         kBarsTop + room - height - 4,
                         100 * static_cast<double>(bars[i].count) / static_cast<double>(total));
    }
    svg += "</g>\n";
  }
  return svg + fmt::format(
                   "<line x1=\"0\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/><text class=\"axis\" x=\"{}\" "
                   "y=\"{}\">{}</text></svg>\n",
                   kBarsWidth, kBarsTop + room, kBarsTop + room, kBarsWidth / 2, kBarsHeight - 8, axis);
}

// `total` is a sum over `tensors` tensors; of it only the histogram and the count are used.
std::string CodePlot(const Scheme& scheme, const Q4Stats& total, std::uint64_t tensors) {
  const auto values = scheme.code_values();
  const std::string_view name = scheme.name();
  // By value, so that the plot has the shape of the weights' distribution. The codes of FP4 are not in the order of
  // their values. The sort is stable, since FP4 has two codes for zero.
  std::array<std::size_t, 16> order;
  for (std::size_t code = 0; code < order.size(); ++code) order[code] = code;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::uint64_t count = 0;
  for (const std::uint64_t uses : total.hist) count += uses;
  std::vector<Bar> bars;
  for (const std::size_t code : order) {
    bars.push_back({fmt::format("{:+.2f}", values[code]),
                    fmt::format("code {}, value {:+.6f}: {}, {}", code, values[code], Grouped(total.hist[code]),
                                Percent(total.hist[code], count)),
                    total.hist[code]});
  }
  return fmt::format("<h3>{}</h3>\n<p class=\"note\">{}, {}, {:.4f} bits of entropy per code of 4</p>\n", name,
                     Counted(tensors, "tensor"), Counted(count, "code"), CodeEntropyBits(total)) +
         BarPlot(fmt::format("How often each {} code is used", name),
                 "value of the code, in units of the block's scale", bars);
}

}  // namespace

std::string CodesSection(const VerifyReport& report) {
  std::string plots;
  // Code books are never added up: the same code means another value in each.
  for (const Scheme& scheme : Schemes()) {
    Q4Stats total;
    std::uint64_t tensors = 0;
    for (const VerifyTensor& tensor : report.tensors) {
      if (tensor.scheme != scheme.id || !tensor.has_stats) continue;
      ++tensors;
      total.count += tensor.stats.count;
      for (std::size_t code = 0; code < total.hist.size(); ++code) total.hist[code] += tensor.stats.hist[code];
    }
    if (tensors != 0) plots += CodePlot(scheme, total, tensors);
  }
  if (plots.empty()) return {};
  return Section("codes", "Codes", "Evenly used codes waste nothing: 4 bits of entropy is the most there is.", plots);
}

std::string ScalesSection(const VerifyReport& report) {
  const ScaleSpread& scales = report.scales;
  if (scales.by_exponent.empty()) return {};
  const int first = scales.by_exponent.begin()->first;
  const int last = scales.by_exponent.rbegin()->first;
  // fp32 numbers have about 280 exponents, of which a damaged or hostile container may use any. Above kMostBars, some
  // of them share a bar.
  const int span = static_cast<int>((static_cast<std::size_t>(last - first) / kMostBars) + 1);  // exponents per bar
  std::vector<Bar> bars;
  for (int exponent = first; exponent <= last; exponent += span) {
    std::uint64_t count = 0;
    const auto end = scales.by_exponent.lower_bound(exponent + span);
    // Exponents that do not occur are not in the map, hence the range between two bounds.
    for (auto at = scales.by_exponent.lower_bound(exponent); at != end; ++at) count += at->second;
    bars.push_back({fmt::format("2<tspan class=\"exponent\" dy=\"-4\">{}</tspan>", exponent),
                    fmt::format("from 2^{} to 2^{}: {}, {}", exponent, exponent + span, Grouped(count),
                                Percent(count, scales.count)),
                    count});
  }
  return Section("scales", "Scales",
                 fmt::format("{} from {} to {}, {} of them zero.", Counted(scales.count, "scale"),
                             ShortText(static_cast<double>(scales.min)), ShortText(static_cast<double>(scales.max)),
                             scales.zeros == 0 ? "none" : Grouped(scales.zeros)),
                 BarPlot("How the scales are spread", "size of the scale", bars));
}

}  // namespace q4::html
