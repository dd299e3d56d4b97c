// The JSON documents of q4inspect, as docs/schema/inspect.schema.json describes them.
#pragma once

#include <string>

#include "libconvert/inspect.h"
#include "libconvert/inspect_diff.h"

namespace q4 {

std::string InspectReportJson(const InspectReport& report, const InspectDetail& detail);
std::string DiffReportJson(const DiffReport& report);

}  // namespace q4
