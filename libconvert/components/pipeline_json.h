// The documents of the tools about a pipeline hold one of each component. Internal to libconvert/components/.
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"

namespace q4 {

// A document that another wing has written, as a member of one of ours. REQUIRES: `text` is JSON.
inline Json DocumentOf(const std::string& text) {
  // Its own writer bounds it; deeper or larger than a report is none.
  absl::StatusOr<Json> json = ParseJson(text, "report", limits::kConfigJsonDepth, limits::kReportValueBytes);
  return json.ok() ? *std::move(json) : Json(nullptr);
}

}  // namespace q4
