// The JSON documents of q4inspect, as docs/schema/inspect.schema.json describes them.
#pragma once

#include <string>

#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

std::string InspectReportJson(const InspectReport& report, const InspectDetail& detail);
std::string DiffReportJson(const DiffReport& report);

}  // namespace q4
