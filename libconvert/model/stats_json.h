// Error statistics as JSON, the same in every report: docs/schema/*.schema.json, definition "stats". Members are named
// as in Q4Stats; the ratios come beside them, so that a script needs no formula.
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "formats/q4/container.h"
#include "libconvert/model/scale_spread.h"
#include "libconvert/model/stats.h"

namespace q4 {

// The recorded statistics of a tensor and the ratios that Derive() makes of them (stats.h). Values that are infinite or
// NaN become null, as JSON has no other word for them: the SQNR of a tensor without any error, for example.
Json StatsJson(const Q4Stats& stats);

// The statistics of a model: as StatsJson() of the totals, with the number of tensors and the names of those that hold
// the maxima. Indices count inside these tensors.
Json ModelStatsJson(const ModelStats& model);

// How scales are spread: definition "spread" of the schemas.
Json ScaleSpreadJson(const ScaleSpread& spread);

// The text of a report: indented by two, with a final newline. ASCII only, so that no control character of an input
// reaches a terminal as it is; what is no valid UTF-8 in a name becomes U+FFFD.
std::string JsonReportText(const Json& report);

}  // namespace q4
