// SQNR by layer as inline SVG. Each role is a line with markers of a shape of its own and its name at its end, so that
// the plot can be read without colours; limits of gates are dashed; the same figures follow as a table.
//
// It is drawn twice, wide and, for telephones, narrow with its names below: text of a drawing that is only scaled down
// would be too small to read. page.css shows one of the two. Coordinates are those of SVG: y grows downwards.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/report/html/layer_errors.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"
#include "libconvert/report/html/terms.h"

namespace q4::html {
namespace {

// In units of the drawing; page.css scales it to the width of the page.
struct Frame {
  const char* style;
  double width, height, left, right, top, bottom;
  std::size_t layer_labels;  // most that fit below the axis
  bool names_beside;         // at the right, where there is room for names of roles
  double X(std::size_t layer, std::size_t layers) const;
  double Y(const SqnrAxis& axis, double value) const { return top + (height - top - bottom) * (1 - axis.Part(value)); }
  double End() const { return width - right; }
};
constexpr Frame kWide = {"layers only-wide", 960, 380, 52, 190, 22, 46, 24, true};
constexpr Frame kNarrow = {"layers only-narrow", 360, 300, 30, 6, 22, 40, 9, false};
constexpr double kLabelPitch = 15;           // between names at the right
constexpr std::size_t kMostMarkers = 4096;   // above that, lines alone
constexpr std::size_t kMostTableRows = 300;  // no model of today has as many layers
constexpr std::size_t kLabelBytes = 26;      // what there is room for at the right
constexpr std::size_t kLayerBytes = 8;       // a number, except in names that nobody chose well
constexpr std::size_t kGateBytes = 18;       // beside which a limit stands
constexpr std::size_t kOutsideShown = 3;

// A single layer stands in the middle. Otherwise 12 units stay free at both ends, so that markers do not touch the
// axis.
double Frame::X(std::size_t layer, std::size_t layers) const {
  const double room = width - left - right;
  return layers < 2 ? left + room / 2
                    : left + 12 + (room - 24) * static_cast<double>(layer) / static_cast<double>(layers - 1);
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
std::string Grid(const Frame& frame, const LayerErrors& errors, const SqnrAxis& axis) {
  std::string svg;
  const auto ticks = static_cast<int>(std::lround((axis.high - axis.low) / axis.step));
  for (int i = 0; i <= ticks; ++i) {
    const double value = axis.low + i * axis.step, y = frame.Y(axis, value);
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"tick\" x=\"{3}\" y=\"{4:.1f}\">{5:g}</text>\n",
        frame.left, frame.End(), y, frame.left - 6, y + 4, value);
  }
  const std::size_t every = errors.layers.size() / frame.layer_labels + 1;
  for (std::size_t i = 0; i < errors.layers.size(); i += every) {
    svg += fmt::format("<text class=\"layer\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", frame.X(i, errors.layers.size()),
                       frame.height - frame.bottom + 18, Text(LastComponent(errors.layers[i]), kLayerBytes));
  }
  return svg +
         fmt::format(
             "<text class=\"axis\" x=\"{}\" y=\"{}\">layer</text><text class=\"axis start\" x=\"2\" y=\"11\">SQNR dB"
             "</text>\n",
             (frame.left + frame.End()) / 2, frame.height - 6);
}

// "M10.0 20.0L...": interrupted where a layer has no value: joining its neighbours would show one that nobody measured.
std::string PathOf(const Frame& frame, const SqnrAxis& axis, const std::vector<double>& values) {
  std::string path;
  bool pen_down = false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isnan(values[i])) {
      path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", frame.X(i, values.size()), frame.Y(axis, values[i]));
    }
    pen_down = !std::isnan(values[i]);
  }
  return path;
}

// One series: a path, and markers whose titles have the figures for a pointing device.
std::string Line(const Frame& frame, const LayerErrors& errors, const SqnrAxis& axis, std::size_t index,
                 bool with_markers) {
  const Series& series = errors.series[index];
  std::string markers;
  for (std::size_t i = 0; with_markers && i < errors.layers.size(); ++i) {
    const double value = series.sqnr_db[i];
    if (std::isnan(value)) continue;
    const std::string marker = Marker(index, frame.X(i, errors.layers.size()), frame.Y(axis, value));
    // Fingers cannot point: the narrow drawing does without titles.
    markers += frame.names_beside ? fmt::format("<g><title>{} {}: {:.3f} dB</title>{}</g>", Text(errors.layers[i], 80),
                                                Text(series.role, 80), value, marker)
                                  : marker;
  }
  return fmt::format("<g class=\"series s{}\"><path class=\"line\" d=\"{}\"/>{}</g>\n", index,
                     PathOf(frame, axis, series.sqnr_db), markers);
}

bool IsOnAxis(const SqnrAxis& axis, const LimitLine& limit) {
  return limit.highest >= axis.low && limit.highest <= axis.high;
}

// "nf4, blocks of 64 ≥ 17.96"; a baseline's limit differs by layer.
std::string LimitLabel(const LimitLine& limit) {
  const bool is_one =
      std::all_of(limit.sqnr_db.begin(), limit.sqnr_db.end(), [&](double value) { return value == limit.highest; });
  return Text(limit.gate, kGateBytes) + (is_one ? fmt::format(" ≥ {:.4g}", limit.highest) : "");
}

// A dash as long as a marker is wide, around (x, y).
std::string LimitMark(double x, double y) { return fmt::format("<path d=\"M{:.1f} {:.1f}h14\"/>", x - 7, y); }

std::string Limits(const Frame& frame, const LayerErrors& errors, const SqnrAxis& axis) {
  std::string svg;
  for (const LimitLine& limit : errors.limits) {
    if (!IsOnAxis(axis, limit)) continue;
    std::vector<double> shown = limit.sqnr_db;
    // What a baseline asks of single layers may lie off the axis.
    for (double& value : shown) value = value >= axis.low && value <= axis.high ? value : std::nan("");
    svg += "<g class=\"limit\">" +
           (errors.layers.size() > 1 ? "<path d=\"" + PathOf(frame, axis, shown) + "\"/>"
                                     : LimitMark(frame.X(0, 1), frame.Y(axis, limit.highest))) +
           "</g>\n";
  }
  return svg;
}

// The names of series and limits at the right, each near the end of its line, none over another.
std::string Labels(const Frame& frame, const LayerErrors& errors, const SqnrAxis& axis) {
  struct Label {
    double y;
    const Series* series;  // null: of a limit
    std::size_t index;
  };
  std::vector<Label> labels;
  const auto add = [&](const std::vector<double>& values, const Series* series, std::size_t index) {
    const auto last = std::find_if(values.rbegin(), values.rend(), [](double value) { return !std::isnan(value); });
    if (last != values.rend()) labels.push_back({frame.Y(axis, *last), series, index});
  };
  for (std::size_t i = 0; i < errors.series.size(); ++i) add(errors.series[i].sqnr_db, &errors.series[i], i);
  for (std::size_t i = 0; i < errors.limits.size(); ++i) {
    if (IsOnAxis(axis, errors.limits[i])) add({errors.limits[i].highest}, nullptr, i);
  }
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  // Labels first move down until none overlaps the one above, then up from the bottom edge until none overlaps the one
  // below. With at most kMostSeries and kMostLimits of them, kLabelPitch apart, all fit.
  double least = frame.top;
  for (Label& label : labels) least = (label.y = std::max(label.y, least)) + kLabelPitch;
  double most = frame.height - frame.bottom;
  for (auto at = labels.rbegin(); at != labels.rend(); ++at) most = (at->y = std::min(at->y, most)) - kLabelPitch;
  std::string svg;
  for (const Label& label : labels) {
    const double x = frame.End() + 14;
    const std::string mark = label.series == nullptr ? LimitMark(x, label.y) : Marker(label.index, x, label.y);
    const std::string text =
        label.series == nullptr ? LimitLabel(errors.limits[label.index]) : Text(label.series->role, kLabelBytes);
    svg += fmt::format("<g class=\"{}\">{}<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text></g>\n",
                       label.series == nullptr ? "limit" : fmt::format("series s{}", label.index), mark,
                       x + (label.series == nullptr ? 12 : 10), label.y + 4, text);
  }
  return svg;
}

// The same below the narrow drawing.
std::string Legend(const LayerErrors& errors, const SqnrAxis& axis) {
  std::string list;
  const auto add = [&list](const std::string& style, const std::string& mark, const std::string& text) {
    list += fmt::format("<li class=\"{}\"><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">{}</svg>{}</li>\n", style,
                        mark, text);
  };
  for (std::size_t i = 0; i < errors.series.size(); ++i) {
    add(fmt::format("series s{}", i), Marker(i, 7, 7), Name(errors.series[i].role, 80));
  }
  for (const LimitLine& limit : errors.limits) {
    if (IsOnAxis(axis, limit)) add("limit", LimitMark(7, 7), LimitLabel(limit));
  }
  return "<ul class=\"legend only-narrow\">\n" + list + "</ul>\n";
}

std::string Drawing(const Frame& frame, const LayerErrors& errors, const SqnrAxis& axis) {
  // Each marker is an element with a title of its own: a thousand layers with eight roles would add more than a
  // megabyte.
  const bool with_markers = errors.layers.size() * errors.series.size() <= kMostMarkers;
  std::string svg = fmt::format(
      "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"SQNR by layer, a line for each role; the "
      "table "
      "below has the figures\">\n",
      frame.style, frame.width, frame.height);
  svg += Grid(frame, errors, axis) + Limits(frame, errors, axis);
  for (std::size_t i = 0; i < errors.series.size(); ++i) svg += Line(frame, errors, axis, i, with_markers);
  if (frame.names_beside) svg += Labels(frame, errors, axis);
  return svg + "</svg>\n";
}

// What the plot does not show, and how its axis is to be read.
std::string Lead(const LayerErrors& errors, const SqnrAxis& axis) {
  std::string text = fmt::format(
      "Higher is better; each line is one role. The axis covers {:g} to {:g} dB and does not begin at 0; 3 dB are a "
      "factor of two of the squared error.",
      axis.low, axis.high);
  for (const LimitLine& limit : errors.limits) {
    if (!IsOnAxis(axis, limit)) {
      text += fmt::format(" The limit {} lies {} it.", LimitLabel(limit), limit.highest < axis.low ? "below" : "above");
    }
  }
  if (errors.limits_left_out != 0) {
    text += fmt::format(" Limits: the {} strictest are drawn, {} not.", kMostLimits, Grouped(errors.limits_left_out));
  }
  if (!errors.outside.empty()) {
    text += " Not drawn, because in no layer: ";
    for (std::size_t i = 0; i < std::min(errors.outside.size(), kOutsideShown); ++i) {
      text += (i == 0 ? "" : ", ") + Name(errors.outside[i], 120);
    }
    if (errors.outside.size() > kOutsideShown) {
      text += fmt::format(" and {} more", Grouped(errors.outside.size() - kOutsideShown));
    }
    text += ".";
  }
  if (errors.empty_layers != 0) {
    text += fmt::format(" Nothing is quantized in {} of {}.", Grouped(errors.empty_layers),
                        Counted(errors.layers.size(), "layer"));
  }
  if (errors.roles_left_out != 0) {
    text += fmt::format(" The {} largest roles are drawn, {} smaller ones are in the tables.", kMostSeries,
                        Grouped(errors.roles_left_out));
  }
  return text;
}

// Folded away; it serves screen readers, and those who want to copy figures.
std::string FiguresTable(const LayerErrors& errors) {
  std::vector<std::string> headings;  // kept, since columns only look at them
  for (const Series& series : errors.series) headings.push_back(Text(series.role, 80));
  std::vector<TableColumn> columns = {{"layer"}};
  for (const std::string& heading : headings) columns.push_back({heading, TableColumn::Kind::kNumber});
  std::vector<std::vector<std::string>> rows;
  const std::size_t shown = std::min(errors.layers.size(), kMostTableRows);
  for (std::size_t i = 0; i < shown; ++i) {
    rows.push_back({Name(errors.layers[i])});
    for (const Series& series : errors.series) {
      rows.back().push_back(std::isnan(series.sqnr_db[i]) ? "-" : SqnrText(series.sqnr_db[i]));
    }
  }
  std::string text =
      "<details><summary>The figures as a table</summary>\n" + CardTable("SQNR in dB by layer and role", columns, rows);
  if (shown != errors.layers.size()) {
    text += fmt::format("<p class=\"note\">and {}</p>\n", Counted(errors.layers.size() - shown, "more layer"));
  }
  return text + "</details>\n";
}

}  // namespace

std::string LayersSection(const VerifyReport& report) {
  const LayerErrors errors = CollectLayerErrors(report);
  if (errors.series.empty()) return {};
  const SqnrAxis axis = AxisOf(errors);
  return Section("layers", "Error by layer", Lead(errors, axis),
                 Terms({"SQNR", "role"}) + Drawing(kWide, errors, axis) + Drawing(kNarrow, errors, axis) +
                     Legend(errors, axis) + FiguresTable(errors));
}

}  // namespace q4::html
