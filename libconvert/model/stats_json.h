// Error statistics as JSON, the same in every report: docs/schema/*.schema.json, definition "stats".
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "formats/q4/container.h"
#include "libconvert/model/stats.h"

namespace q4 {

// The recorded statistics and the ratios derived from them. Values that are infinite or NaN become null.
Json StatsJson(const Q4Stats& stats);

// Of a model: as StatsJson(), with the number of tensors and the names of those that hold the maxima.
Json ModelStatsJson(const ModelStats& model);

// The text of a report: indented, ASCII only (so that no control character of an input reaches a terminal raw), with a
// final newline.
std::string JsonReportText(const Json& report);

}  // namespace q4
