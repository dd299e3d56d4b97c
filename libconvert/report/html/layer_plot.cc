// SQNR by layer as inline SVG. Each role is a line with markers of a shape of its own and its name at its end, so that
// the plot can be read without colours; the same figures follow as a table.
//
// Collect() makes a table of layers and roles, AxisFor() chooses the axis, Line() and Labels() draw. Coordinates are
// those of SVG: y grows downwards.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"

namespace q4::html {
namespace {

// In units of the drawing; page.css scales it to the width of the page. At the right there is room for names of roles.
constexpr double kWidth = 960, kHeight = 380;
constexpr double kLeft = 52, kRight = 190, kTop = 18, kBottom = 46;
constexpr double kLabelPitch = 15;           // between names at the right
constexpr std::size_t kMostSeries = 8;       // as many shapes and colours there are
constexpr std::size_t kMostMarkers = 4096;   // above that, lines alone
constexpr std::size_t kMostTableRows = 300;  // no model of today has as many layers
constexpr std::size_t kLabelBytes = 26;      // what kRight has room for
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct Series {
  std::string role;
  std::uint64_t elems = 0;
  std::vector<double> sqnr_db;  // by layer; NaN where the layer has none
};

struct LayerErrors {
  std::vector<std::string> layers;
  std::vector<Series> series;  // in the order of their names
  std::size_t roles_left_out = 0;
};

// Layers come in the order of the report, which is natural order: 2 before 10.
LayerErrors Collect(const VerifyReport& report) {
  LayerErrors errors;
  std::map<std::string_view, std::size_t> layer_at;
  for (const VerifyGroup& group : report.groups) {
    if (group.kind != VerifyGroup::Kind::kLayer) continue;
    layer_at.emplace(group.name, errors.layers.size());
    errors.layers.push_back(group.name);
  }
  // Tensors of one role in one layer, experts for example, count as one: their sums are added, as numerics Q8.5 asks
  // for, not their ratios averaged.
  std::map<std::string, std::map<std::size_t, ModelStats>> by_role;
  std::map<std::string, std::uint64_t> elems;
  for (const VerifyTensor& tensor : report.tensors) {
    const auto layer = layer_at.find(tensor.layer);
    if (!tensor.quantized() || !tensor.has_stats || tensor.role.empty() || layer == layer_at.end()) continue;
    AddTensor(tensor.name, tensor.stats, &by_role[tensor.role][layer->second]);
    elems[tensor.role] += tensor.elems;
  }
  for (const auto& [role, layers] : by_role) {
    Series series{role, elems[role], std::vector<double>(errors.layers.size(), kNone)};
    for (const auto& [layer, stats] : layers) {
      const double sqnr_db = Derive(stats.total).sqnr_db;
      // Infinite for a layer that decodes without error, such as zeros; a plot has no place for it.
      if (std::isfinite(sqnr_db)) series.sqnr_db[layer] = sqnr_db;
    }
    errors.series.push_back(std::move(series));
  }
  if (errors.series.size() > kMostSeries) {
    // The largest roles matter most for the model; they are then put back into the order of their names, so that a role
    // keeps its shape and colour from report to report where that is possible.
    errors.roles_left_out = errors.series.size() - kMostSeries;
    std::stable_sort(errors.series.begin(), errors.series.end(),
                     [](const Series& a, const Series& b) { return a.elems > b.elems; });
    errors.series.resize(kMostSeries);
    std::sort(errors.series.begin(), errors.series.end(),
              [](const Series& a, const Series& b) { return a.role < b.role; });
  }
  return errors;
}

// The axis in dB. It begins and ends on a tick. At() gives the y of a value.
struct Axis {
  double low = 0, high = 1, step = 1;
  double At(double value) const { return kTop + (kHeight - kTop - kBottom) * (high - value) / (high - low); }
};

Axis AxisFor(const LayerErrors& errors) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const Series& series : errors.series) {
    for (const double value : series.sqnr_db) {
      if (std::isnan(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  Axis axis;
  // No finite value in any series.
  if (low > high) return axis;
  // The smallest step that gives about six intervals. SQNR of 4-bit weights is about 20 dB and differs by tenths
  // between roles, so steps begin far below 1 dB.
  for (const double step : {0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0}) {
    axis.step = step;
    if ((high - low) / step <= 6) break;
  }
  axis.low = std::floor(low / axis.step) * axis.step;
  axis.high = std::ceil(high / axis.step) * axis.step;
  // All values are equal and lie on a tick; At() would divide by zero.
  if (axis.high <= axis.low) axis.high = axis.low + axis.step;
  return axis;
}

// A single layer stands in the middle. Otherwise 12 units stay free at both ends, so that markers do not touch the
// axis.
double LayerX(std::size_t layer, std::size_t layers) {
  const double room = kWidth - kLeft - kRight;
  return layers < 2 ? kLeft + room / 2
                    : kLeft + 12 + (room - 24) * static_cast<double>(layer) / static_cast<double>(layers - 1);
}

// A marker around (x, y), about 7 units wide; one shape per series.
std::string Marker(std::size_t shape, double x, double y) {
  static constexpr std::array<const char*, kMostSeries> kShapes = {
      "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",                                            // disc
      "m-3.2-3.2h6.4v6.4h-6.4z",                                                                 // square
      "m0-4.2l4 7h-8z",                                                                          // triangle
      "m0-4.4l4.4 4.4l-4.4 4.4l-4.4-4.4z",                                                       // diamond
      "m0 4.2l4-7h-8z",                                                                          // triangle on its tip
      "m-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",                               // plus
      "m-4-1.6l4-2.8l4 2.8l-1.5 5h-5z",                                                          // pentagon
      "m-4-4l1.6 0l2.4 2.6l2.4-2.6l1.6 0l-3.2 4l3.2 4l-1.6 0l-2.4-2.6l-2.4 2.6l-1.6 0l3.2-4z"};  // cross
  return fmt::format("<path class=\"marker\" d=\"M{:.1f} {:.1f}{}\"/>", x, y, kShapes[shape]);
}

// "model.layers.17" -> "17"
std::string_view LastComponent(std::string_view name) {
  const std::size_t dot = name.find_last_of('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

// Horizontal lines with their dB at the left, and the layers' numbers below.
std::string Grid(const LayerErrors& errors, const Axis& axis) {
  std::string svg;
  const auto ticks = static_cast<int>(std::lround((axis.high - axis.low) / axis.step));
  for (int i = 0; i <= ticks; ++i) {
    const double value = axis.low + i * axis.step;
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"tick\" x=\"{3}\" y=\"{4:.1f}\">{5:g}</text>\n",
        kLeft, kWidth - kRight, axis.At(value), kLeft - 8, axis.At(value) + 4, value);
  }
  // At most 24 numbers fit below the axis.
  const std::size_t every = errors.layers.size() / 24 + 1;
  for (std::size_t i = 0; i < errors.layers.size(); i += every) {
    svg += fmt::format("<text class=\"layer\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", LayerX(i, errors.layers.size()),
                       kHeight - kBottom + 18, Text(LastComponent(errors.layers[i]), kLabelBytes));
  }
  return svg +
         fmt::format(
             "<text class=\"axis\" x=\"{}\" y=\"{}\">layer</text><text class=\"axis start\" x=\"4\" y=\"11\">SQNR dB"
             "</text>\n",
             (kLeft + kWidth - kRight) / 2, kHeight - 8);
}

// One series: a path, and markers whose titles have the figures for a pointing device.
std::string Line(const LayerErrors& errors, const Axis& axis, std::size_t index, bool with_markers) {
  const Series& series = errors.series[index];
  const std::size_t layers = errors.layers.size();
  std::string path, markers;
  // A layer that lacks the role interrupts the line: joining its neighbours would show a value that nobody measured.
  bool pen_down = false;
  for (std::size_t i = 0; i < layers; ++i) {
    const double value = series.sqnr_db[i];
    if (std::isnan(value)) {
      pen_down = false;
      continue;
    }
    const double x = LayerX(i, layers), y = axis.At(value);
    path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x, y);
    pen_down = true;
    if (!with_markers) continue;
    markers += fmt::format("<g><title>{} {}: {:.3f} dB</title>{}</g>", Text(errors.layers[i], 80),
                           Text(series.role, 80), value, Marker(index, x, y));
  }
  return fmt::format("<g class=\"series s{}\"><path class=\"line\" d=\"{}\"/>{}</g>\n", index, path, markers);
}

// The names of the series at the right, each near the end of its line, none over another.
std::string Labels(const LayerErrors& errors, const Axis& axis) {
  std::vector<std::pair<double, std::size_t>> wanted;  // y, series
  for (std::size_t i = 0; i < errors.series.size(); ++i) {
    const std::vector<double>& values = errors.series[i].sqnr_db;
    const auto last = std::find_if(values.rbegin(), values.rend(), [](double value) { return !std::isnan(value); });
    if (last != values.rend()) wanted.emplace_back(axis.At(*last), i);
  }
  std::sort(wanted.begin(), wanted.end());
  // Labels first move down until none overlaps the one above, then up from the bottom edge until none overlaps the one
  // below. With at most kMostSeries labels, kLabelPitch apart, all fit.
  double least = kTop;
  for (auto& [y, series] : wanted) least = (y = std::max(y, least)) + kLabelPitch;
  double most = kHeight - kBottom;
  for (auto at = wanted.rbegin(); at != wanted.rend(); ++at)
    most = (at->first = std::min(at->first, most)) - kLabelPitch;
  std::string svg;
  for (const auto& [y, series] : wanted) {
    svg += fmt::format("<g class=\"series s{}\">{}<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text></g>\n", series,
                       Marker(series, kWidth - kRight + 14, y), kWidth - kRight + 24, y + 4,
                       Text(errors.series[series].role, kLabelBytes));
  }
  return svg;
}

// Folded away; it serves screen readers, and those who want to copy figures.
std::string FiguresTable(const LayerErrors& errors) {
  std::string head = "<th scope=\"col\">layer";
  for (const Series& series : errors.series) head += "<th scope=\"col\" class=\"n\">" + Text(series.role, 80);
  std::string rows;
  const std::size_t shown = std::min(errors.layers.size(), kMostTableRows);
  for (std::size_t i = 0; i < shown; ++i) {
    rows += "<tr>" + TextCell(Name(errors.layers[i]));
    for (const Series& series : errors.series) {
      rows += NumberCell(std::isnan(series.sqnr_db[i]) ? "-" : SqnrText(series.sqnr_db[i]));
    }
    rows += "</tr>\n";
  }
  std::string text =
      "<details><summary>The figures as a table</summary>\n" + ScrollTable("SQNR in dB by layer and role", head, rows);
  if (shown != errors.layers.size()) {
    text += fmt::format("<p class=\"note\">and {} more layers</p>\n", Grouped(errors.layers.size() - shown));
  }
  return text + "</details>\n";
}

}  // namespace

std::string LayersSection(const VerifyReport& report) {
  const LayerErrors errors = Collect(report);
  if (errors.series.empty()) return {};
  const Axis axis = AxisFor(errors);
  // Each marker is an element with a title of its own: a thousand layers with eight roles would add more than a
  // megabyte.
  const bool with_markers = errors.layers.size() * errors.series.size() <= kMostMarkers;
  std::string svg = fmt::format(
      "<div class=\"scroll\"><svg class=\"layers\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"SQNR by layer, a "
      "line for each "
      "role; the table below has the figures\">\n",
      kWidth, kHeight);
  svg += Grid(errors, axis);
  for (std::size_t i = 0; i < errors.series.size(); ++i) svg += Line(errors, axis, i, with_markers);
  svg += Labels(errors, axis) + "</svg></div>\n";
  std::string lead = "Higher is better. Each line is one role.";
  if (errors.roles_left_out != 0) {
    lead += fmt::format(" The {} largest roles are drawn, {} smaller ones are in the tables.", kMostSeries,
                        Grouped(errors.roles_left_out));
  }
  return Section("layers", "Error by layer", lead, svg + FiguresTable(errors));
}

}  // namespace q4::html
