// What the plot of errors by layer shows, before it is drawn: a series of SQNR for each role, the limits that gates
// set, and the axis that holds both. Internal to libconvert/report/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "libconvert/judge/verify_report.h"

namespace q4::html {

inline constexpr std::size_t kMostSeries = 8;  // as many shapes and colours there are
inline constexpr std::size_t kMostLimits = 4;  // lines of gates, the strictest ones

// A line of the plot: a value by layer, NaN where the layer has none.
struct Series {
  std::string role;
  std::uint64_t elems = 0;
  std::vector<double> sqnr_db;
};

// A limit that gates set on the SQNR of tensors, roles or layers: the same for all layers, or by layer from a baseline.
// A limit on NMSE is one on SQNR, -10 log10 of it.
struct LimitLine {
  std::string gate;             // the rule's name
  std::vector<double> sqnr_db;  // of each layer; NaN where there is none
  double highest = 0;           // of these
};

struct LayerErrors {
  std::vector<std::string> layers;
  std::vector<Series> series;     // in the order of their names
  std::vector<LimitLine> limits;  // strictest first, at most kMostLimits
  std::size_t roles_left_out = 0, limits_left_out = 0;
  // Quantized tensors that lie in no layer, or have no role in it; and layers in which nothing is quantized.
  std::vector<std::string> outside;
  std::size_t empty_layers = 0;
};
LayerErrors CollectLayerErrors(const VerifyReport& report);

// The axis in dB; it begins and ends on a tick.
struct SqnrAxis {
  double low = 0, high = 1, step = 1;
  // Of a value, 0 at the low end and 1 at the high one.
  double Part(double value) const { return (value - low) / (high - low); }
};
// Holds all series, and those limits that lie near enough for both to be read. Never less than 3 dB, a factor of two of
// the squared error: what lies close together shall look so.
SqnrAxis AxisOf(const LayerErrors& errors);

}  // namespace q4::html
