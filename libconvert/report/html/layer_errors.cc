// Sums of what lies in a layer and has one role, limits by layer, and the span of the axis.
#include "libconvert/report/html/layer_errors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libconvert/model/stats.h"

namespace q4::html {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kLeastSpanDb = 3;
constexpr double kFarLimitDb = 6;  // a limit farther from all values would press them into a strip

// Of a limit that stands on an axis of SQNR, else NaN: a floor of SQNR or a ceiling of NMSE.
double LimitInDb(const GateVerdict& verdict) {
  if (verdict.statistic == "sqnr_db" && !verdict.is_maximum) return verdict.limit;
  // NMSE of 0 is no error at all, which no axis holds.
  if (verdict.statistic == "nmse" && verdict.is_maximum && verdict.limit > 0) return -10 * std::log10(verdict.limit);
  return kNone;
}

// A rule of a gate file has one limit for whatever it matches. A baseline has one for each subject; of these, the
// layers' are drawn.
void CollectLimits(const VerifyReport& report, const std::map<std::string_view, std::size_t>& layer_at,
                   LayerErrors* errors) {
  using Scope = GateVerdict::Scope;
  std::map<std::string, LimitLine> by_text;
  for (const GateVerdict& verdict : report.gates) {
    const double limit = LimitInDb(verdict);
    if (!std::isfinite(limit)) continue;
    if (verdict.gate == "baseline" && !report.baseline.empty()) {
      const auto layer = layer_at.find(verdict.subject);
      if (verdict.scope != Scope::kLayer || layer == layer_at.end()) continue;
      LimitLine& line = by_text["baseline"];
      line.gate = "baseline";
      line.sqnr_db.resize(errors->layers.size(), kNone);
      line.sqnr_db[layer->second] = limit;
    } else if (verdict.scope == Scope::kTensor || verdict.scope == Scope::kLayer || verdict.scope == Scope::kRole) {
      // A space: no rule is called "baseline" then.
      LimitLine& line = by_text[verdict.gate + ' ' + std::to_string(limit)];
      line.gate = verdict.gate;
      line.sqnr_db.assign(errors->layers.size(), limit);
    }
  }
  for (auto& [text, line] : by_text) {
    line.highest = -HUGE_VAL;
    for (const double value : line.sqnr_db)
      line.highest = std::isnan(value) ? line.highest : std::max(line.highest, value);
    errors->limits.push_back(std::move(line));
  }
  std::stable_sort(errors->limits.begin(), errors->limits.end(),
                   [](const LimitLine& a, const LimitLine& b) { return a.highest > b.highest; });
  if (errors->limits.size() > kMostLimits) {
    errors->limits_left_out = errors->limits.size() - kMostLimits;
    errors->limits.resize(kMostLimits);
  }
}

}  // namespace

// Layers come in the order of the report, which is natural order: 2 before 10.
LayerErrors CollectLayerErrors(const VerifyReport& report) {
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
  std::vector<bool> has_any(errors.layers.size());
  for (const VerifyTensor& tensor : report.tensors) {
    if (!tensor.quantized() || !tensor.has_stats) continue;
    const auto layer = layer_at.find(tensor.layer);
    if (tensor.role.empty() || layer == layer_at.end()) {
      errors.outside.push_back(tensor.name);
      continue;
    }
    has_any[layer->second] = true;
    AddTensor(tensor.name, tensor.stats, &by_role[tensor.role][layer->second]);
    elems[tensor.role] += tensor.elems;
  }
  errors.empty_layers = static_cast<std::size_t>(std::count(has_any.begin(), has_any.end(), false));
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
  CollectLimits(report, layer_at, &errors);
  return errors;
}

SqnrAxis AxisOf(const LayerErrors& errors) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const Series& series : errors.series) {
    for (const double value : series.sqnr_db) {
      if (std::isnan(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  SqnrAxis axis;
  // No finite value in any series.
  if (low > high) return axis;
  const double least = low - kFarLimitDb, most = high + kFarLimitDb;
  for (const LimitLine& limit : errors.limits) {
    for (const double value : limit.sqnr_db) {
      if (!(value >= least && value <= most)) continue;  // NaN and what is far off
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  const double missing = std::max(0.0, kLeastSpanDb - (high - low));
  low -= missing / 2;
  high += missing / 2;
  // The smallest step that gives about six intervals.
  for (const double step : {0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0}) {
    axis.step = step;
    if ((high - low) / step <= 7) break;
  }
  axis.low = std::floor(low / axis.step) * axis.step;
  axis.high = std::ceil(high / axis.step) * axis.step;
  return axis;
}

}  // namespace q4::html
